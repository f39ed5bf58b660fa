//! Publish and consume by partition, in process; the relay from the log.
