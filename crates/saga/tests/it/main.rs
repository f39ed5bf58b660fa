//! Sagas that run, as whoever uses them sees them.

mod api;
