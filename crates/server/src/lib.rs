//! The services wired to their adapters: the only place that names one.
