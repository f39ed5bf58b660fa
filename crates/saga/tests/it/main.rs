//! Sagas over real logs: what they send, how they end, and coordinators that are killed.

mod api;
mod bank;
mod call_append;
mod call_grpc;
mod call_grpc_faults;
mod call_hostile;
mod call_http;
mod call_tls;
mod faults;
mod grpc_api;
mod intake_faults;
mod kills;
mod limits;
mod outcomes;
mod shop;
mod standby;
mod support;
