//! The view on a real Redis.

mod conformance;
mod faults;
mod keys;
mod queries;
mod support;
