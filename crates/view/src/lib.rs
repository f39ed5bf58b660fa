//! Read-model sinks: a batch and its checkpoint as one; queries; in-memory; the conformance suite.
