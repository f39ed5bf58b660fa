//! What a URL's path names.

use axum::extract::{FromRequestParts, Path};
use headwater_core::Error;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Problem;

/// The parameters of a route, decoded; as [`axum::extract::Path`], and a path that cannot be decoded is a problem like others.
#[derive(Debug)]
pub struct UrlPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for UrlPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Problem::from(Error::invalid(
                "url",
                format!("its path cannot be read ({}); send UTF-8, percent-encoded", rejection.body_text()),
            ))),
        }
    }
}
