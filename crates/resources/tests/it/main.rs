//! The definitions, the manifests and the digests, as their users meet them.

mod crds;
