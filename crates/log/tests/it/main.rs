//! The log's contract, kept by the store in memory.

mod look_ups;
mod memory;
mod property;
mod replica;
mod subscription;
