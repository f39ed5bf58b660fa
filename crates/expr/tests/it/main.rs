//! Expressions as their users see them: source in, value or fault out.

mod faults;
mod json;
mod kubernetes;
mod properties;
mod schema;
mod semantics;
mod speed;
mod templates;
