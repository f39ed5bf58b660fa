//! Benchmarks that check their own result.
