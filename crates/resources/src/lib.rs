//! The custom resources, their validation and digests: what `dev`, `validate` and an operator share.
//!
//! ```text
//!  *.yaml ──▶ yaml (marked) ──▶ structure ──▶ defaults ──▶ rules ──▶ EventStream · Projection · Saga ──▶ validate
//!                │             CRD schema                CRD's CEL        the Rust types              (pure, shared
//!                └─ file:line:column of every fault ◀────────┴──────────────────┴────────────────────  with an operator)
//!
//!  Rust types ──▶ CRDs ──▶ crds/*.yaml            Projection + upcasts ──▶ digest
//! ```
//!
//! The Rust types are the single source: the CRDs, their defaults and rules are generated from them, and a laptop
//! refuses, offline, what an API server refuses.

#![warn(missing_docs)]
#![allow(unreachable_pub, reason = "the derive KubeSchema copies public structs into functions")]

pub mod crd;
pub mod digest;
pub mod event_stream;
pub mod fault;
pub mod manifest;
pub mod projection;
pub mod saga;
pub mod shared;
pub mod validate;

pub use crd::crds;
pub use event_stream::{EventStream, EventStreamSpec, EventStreamStatus};
pub use projection::{Projection, ProjectionSpec, ProjectionStatus};
pub use saga::{Saga, SagaSpec, SagaStatus};

/// The API group of every resource here.
pub const GROUP: &str = "headwater.dev";

/// The version of the group that is served and stored.
pub const VERSION: &str = "v1alpha1";

/// The annotation by which a resource takes a log for its own, whoever has it: that log's id.
pub const ADOPT: &str = "headwater.dev/adopt";

/// Longest name of a resource, in bytes: leaves room for the suffixes of its children.
pub const MAX_NAME_BYTES: usize = 40;
