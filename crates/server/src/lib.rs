//! The services wired to their adapters: the only place that names one.
//!
//! ```text
//!             ┌ EventStream ─ EventStore ─▶ Sequencer ─▶ SqliteLog     streams/NAME.db
//! manifests ──┤                                             │
//!     ▲       ├ Projection ─ workers ◀──────────────────────┤
//!     │       │                 └─▶ SqliteView              │          projections/NAME.db
//!     │       └ Saga ─ coordinator ◀────────────────────────┘
//!     │                   └─▶ Sequencer ─▶ SqliteLog                   sagas/NAME.db
//!  watch                            ▲
//!                 query API ────────┘
//! ```
//!
//! [`Dev`] is all of it in one process, as `headwater dev` runs it; [`EventStoreProcess`], [`QueryWorker`] and [`SagaWorker`] are one
//! event stream, one projection and one saga in a process of its own, as [`programs`] run them.

mod arguments;
mod bus;
mod chosen;
mod claim;
mod configuration;
mod data_dir;
mod database;
mod deletion;
mod dev;
mod event_store;
mod http_server;
mod listen;
mod load;
mod needs;
mod notice;
mod port;
mod process;
pub mod programs;
mod projection;
mod queries;
mod query_worker;
mod relaying;
mod saga;
mod saga_api;
mod saga_worker;
pub mod schemas;
mod stream;
mod tell;
mod tls_files;
mod traced;
mod watch;
mod written_log;

pub use arguments::{AdminArguments, ClientArguments, SecurityArguments};
pub use bus::BusFlag;
pub use data_dir::DataDir;
pub use dev::{Dev, Options};
pub use event_store::{EventStoreOptions, EventStoreProcess, Keep};
pub use listen::Listen;
pub use load::{LoadError, Loaded, load};
pub use notice::{Change, Event, Notice, ProjectionAt, Ready, SagaAt, Severity, StreamAt};
pub use process::ProcessArguments;
pub use query_worker::{QueryWorker, QueryWorkerOptions};
pub use saga_worker::{SagaWorker, SagaWorkerOptions};
