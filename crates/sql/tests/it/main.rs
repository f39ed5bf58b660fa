//! The adapters against their ports' conformance suites, and what only they promise.

mod view;
