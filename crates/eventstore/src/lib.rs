//! The gRPC and HTTP APIs over a log.
