//! The program as people and scripts use it.

mod bulk;
mod demo;
mod dev;
mod events;
mod help;
mod manifests;
mod procfile;
mod projections;
mod sagas;
mod support;
mod watch;
