//! The examples: they are valid, and whoever reads them reads the same.
