//! What protects a port, as services meet it.

mod guard;
