//! The HTTP API of sagas.

use axum::Router;

use crate::catalog::SagaCatalog;

/// The routes.
pub fn router(catalog: SagaCatalog) -> Router {
    Router::new().with_state(catalog)
}
