//! Messages and services, conversions, the map from error kinds to gRPC and HTTP, the typed client.
