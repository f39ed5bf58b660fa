//! Expressions: CEL over events and rows, compiled and checked once, evaluated over borrowed data.
//!
//! ```text
//!  manifest ──source──▶ Expression::compile(source, &Scope) ──▶ Expression ──evaluate──▶ Value
//!  (when, set, key…)         │ parse (crate cel), check,             ▲
//!                            ▼ fold constants, resolve names         │
//!                      Vec<Fault>: all of them,               Variables: event, row, item…
//!                      with offsets and remedies              (borrowed JSON, lazy objects)
//! ```
//!
//! What differs from CEL as Kubernetes evaluates it, and why:
//!
//! - **There is one type of number, an exact decimal** of up to 28 significant digits ([`Decimal`]): literals,
//!   JSON and every operator. `0.1 + 0.2 == 0.3`, `7 / 2 == 3.5`, and an amount never passes through a float.
//!   `+ - * /` give the exact result where it fits; otherwise digits after the point are rounded half to even at
//!   the last one that fits, and a result whose whole part does not fit is an error, as is division by zero. Sums keep
//!   the digits that their terms have (`0.10 + 0.20` is `0.30`), a quotient at least those of its dividend.
//!   `a % b` has the sign of `a`. `int(x)` cuts off what follows the point; `double(x)` and `decimal(x)` are the
//!   decimal itself.
//! - **The checker is conservative**: it refuses what can't work (an unknown variable, a field that a closed schema
//!   does not have, a sum of a number and a text) and accepts what it can't know ([`Type::Any`]).
//! - Keys of maps are text, as in JSON. There are no bytes, no unsigned numbers and no protocol buffer messages.
//! - `type(x)` is compared with the usual names: `type(x) == string`. It is text; `int`, `uint` and `double` are all
//!   `'number'`.
//! - Time zones are `UTC` or an offset (`+02:00`): results must not depend on a machine's zone files.
//!
//! The functions are listed in [`Expression`].
//!
//! ```
//! use headwater_expr::{Expression, Scope, Type, Value, Variables};
//!
//! let scope = Scope::new().with("event", Type::Any);
//! let expression = Expression::compile("event.price * event.count", &scope).unwrap();
//! let event = Value::parse_json(br#"{"price": 19.90, "count": 3}"#).unwrap();
//! let total = Variables::new().with("event", event);
//! assert_eq!(expression.evaluate(&total).unwrap().to_string(), "59.70");
//! ```

#![warn(missing_docs)]

mod budget;
mod check;
mod decimal;
mod evaluate;
mod event;
mod expression;
mod fault;
mod functions;
mod json;
mod moment;
mod parse;
mod scope;
mod source;
mod template;
mod tree;
mod types;
mod value;

pub use event::{EventView, Upcast, Upcasts, event_type};
pub use expression::{EvaluationError, Expression, MAX_SOURCE_BYTES};
pub use fault::Fault;
pub use json::{JsonError, Numbers};
pub use moment::parse_moment;
pub use rust_decimal::Decimal;
pub use scope::{Scope, Variables};
pub use template::Template;
pub use types::{ObjectType, Type};
pub use value::{Map, Object, Value};
