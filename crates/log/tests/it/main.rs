//! The log's contract, kept by the store in memory.

mod memory;
mod property;
mod subscription;
