//! The programs of one resource each, as functions: each is a program by itself, and all are in the one of an image.

mod event_store;
mod query_worker;
mod saga;

pub use event_store::event_store;
pub use query_worker::query_worker;
pub use saga::saga;
