//! End-to-end tests: the real programs, as users run them, and what holds of the workspace as a whole.

mod bus_tls;
mod buses;
mod clients;
mod cluster;
mod concurrency;
mod database_tls;
mod deploy;
mod gitops;
mod groups;
mod guide;
mod histories;
mod kill;
mod layout;
mod load;
mod owners;
mod processes;
mod readiness;
mod readme;
mod replicas;
mod sagas;
mod schemas;
mod security;
mod traces;
mod up;
mod workers;
