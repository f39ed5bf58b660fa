//! What every process needs, each as a value that is passed in: logs, traces, metrics, readiness, shutdown, retries.
//!
//! ```text
//! main ──▶ telemetry::init            SIGINT, SIGTERM ──▶ shutdown::on_signals ──▶ CancellationToken ──▶ services
//!      ──▶ Metrics ──▶ services ──▶ GET /metrics
//!      ──▶ Readiness ◀── Gate ◀── services              GET /readyz says what is waited for
//!      ──▶ Security ──▶ Listener (TLS), Guard (who calls, and what they may do) ──▶ services
//! ```

pub mod auth;
pub mod grpc;
pub mod health;
pub mod listener;
pub mod metrics;
pub mod readiness;
mod reload;
pub mod retry;
pub mod security;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace;

pub use listener::Listener;
pub use metrics::Metrics;
pub use readiness::{Gate, Readiness};
pub use retry::retry;
pub use security::{Security, SecurityOptions};
