//! What every process needs, each as a value that is passed in: logs, metrics, readiness, shutdown, retries.
//!
//! ```text
//! main ──▶ telemetry::init            SIGINT, SIGTERM ──▶ shutdown::on_signals ──▶ CancellationToken ──▶ services
//!      ──▶ Metrics ──▶ services ──▶ GET /metrics
//!      ──▶ Readiness ◀── Gate ◀── services              GET /readyz says what is waited for
//! ```

pub mod grpc;
pub mod health;
pub mod metrics;
pub mod readiness;
pub mod retry;
pub mod shutdown;
pub mod telemetry;

pub use metrics::Metrics;
pub use readiness::{Gate, Readiness};
pub use retry::retry;
