//! The event log: reader, writer, the sequencer with group commit, an in-memory store and the conformance suite.
