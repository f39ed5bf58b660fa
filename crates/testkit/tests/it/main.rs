//! End-to-end tests: the real programs, as users run them, and what holds of the workspace as a whole.

mod buses;
mod cluster;
mod concurrency;
mod guide;
mod kill;
mod layout;
mod readme;
mod replicas;
mod sagas;
mod up;
mod workers;
