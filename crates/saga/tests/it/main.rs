//! A saga over real logs, with participants that keep a ledger, and coordinators that are killed.

mod kills;
mod outcomes;
mod support;
