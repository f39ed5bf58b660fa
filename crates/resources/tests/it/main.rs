//! The definitions, the manifests and the digests, as their users meet them.

mod bad_input;
mod crds;
mod digests;
mod examples;
mod manifests;
mod rules;
