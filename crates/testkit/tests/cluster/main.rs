//! On a real Kubernetes, whose kubeconfig, programs and image `cargo xtask e2e` provides.
//!
//! ```text
//! pods ──▶ Service ──▶ EndpointSlice ──▶ proxy on this machine's own address ──▶ PostgreSQL, Redis, NATS, Kafka on loopback
//! ```

mod banku;
mod conditions;
mod deletion;
mod first_event;
mod gitops;
mod interrupted;
mod kubectl;
mod lag;
mod operator;
mod orders;
mod plugin;
mod reach;
mod reasons;
mod rules;
mod schemas;
mod tls;
mod tour;
mod unreadable;
