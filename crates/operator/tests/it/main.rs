//! What resources become, from the YAML that users write.

mod children;
mod fixture;
mod refusals;
