//! End-to-end tests: the real programs, as users run them, and what holds of the workspace as a whole.

mod concurrency;
mod kill;
mod layout;
mod readme;
mod sagas;
