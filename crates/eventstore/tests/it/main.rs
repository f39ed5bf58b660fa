//! The event store over real sockets: every route and every call, as clients see them.

mod article;
mod budget;
mod conformance;
mod errors;
mod grpc;
mod http;
mod limits;
mod openapi;
mod proxy;
mod resume;
mod schemas;
mod sse;
mod support;
