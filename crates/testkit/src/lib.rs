//! Real services, builders, fault proxies, oracles and histories for tests; the end-to-end tests.
