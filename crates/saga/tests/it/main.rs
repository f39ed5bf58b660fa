//! Sagas against real participants on this machine.

mod bank;
mod call_append;
mod call_grpc;
mod call_grpc_faults;
mod call_hostile;
mod call_http;
mod call_tls;
mod support;
