//! What a person sees of `headwater dev`, and what it plays and runs beside.
//!
//! ```text
//! server::Dev ──notices──┐
//! Procfile ─────lines────┼──▶ Screen ──▶ standard output, for people or as JSON
//! demo.http ──progress───┘
//! ```

mod demo;
mod environment;
mod plan;
mod screen;
mod session;

pub(crate) use demo::{Demo, list};
pub(crate) use environment::environment;
pub(crate) use plan::Plan;
pub(crate) use screen::Screen;
pub(crate) use session::Session;
