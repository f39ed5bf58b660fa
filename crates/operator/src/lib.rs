//! The operator: EventStreams, Projections and Sagas of a cluster become Deployments of the programs that run them.
//!
//! ```text
//!  resource ──▶ References ──▶ Found ──▶ Part ──▶ Children ──▶ apply ──▶ Observed ──▶ Status ──▶ written
//!               what it names   reads     pure     pure         writes    reads        pure      where it differs
//! ```
//!
//! Each step is a function of what comes before; only those that say so touch the cluster. A second pass over what has not changed writes
//! nothing.

#![warn(missing_docs)]

pub mod apply;
pub mod ask;
pub mod children;
pub mod cleanup;
pub mod controller;
mod digest;
pub mod find;
pub mod found;
pub mod kinds;
pub mod leader;
pub mod metrics;
pub mod naming;
pub mod observe;
pub mod packed;
pub mod part;
mod program;
pub mod proof;
pub mod reconcile;
pub mod references;
pub mod seen;
pub mod settings;
pub mod status;
pub mod tell;
pub mod watched;
pub mod written;

pub use program::program;
