//! What a CRD's schema and rules cannot see: expressions, columns, JSON Schemas, the order of a saga's steps.
//!
//! Pure functions, shared by `dev`, `validate` and an operator: a resource in, all its problems out, by path.

mod address;
mod bus;
mod event_stream;
mod expression;
mod projection;
mod saga;
pub mod scope;
mod table;

pub use bus::shared_buses;
pub use event_stream::event_stream;
pub use projection::projection;
pub use saga::saga;
