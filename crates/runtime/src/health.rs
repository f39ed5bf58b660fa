//! `/healthz`, `/readyz` and `/metrics`.

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::{Metrics, Readiness};

/// The routes that a platform asks: `/healthz` (200 while the process turns), `/readyz` (200, or 503 with what is waited for, one
/// a line) and `/metrics`.
pub fn router(readiness: Readiness, metrics: Metrics) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async move || ready(&readiness)))
        .route("/metrics", get(async move || render(&metrics)))
}

fn ready(readiness: &Readiness) -> Response {
    let waiting = readiness.waiting_for();
    if waiting.is_empty() {
        return "ready\n".into_response();
    }
    let lines = format!("waiting for {}\n", waiting.join("\nwaiting for "));
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

fn render(metrics: &Metrics) -> Response {
    match metrics.render() {
        Ok(text) => ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render metrics");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be rendered; see the log\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn readiness_says_what_it_waits_for() {
        let readiness = Readiness::default();
        let gate = readiness.wait_for("the log");
        let router = router(readiness, Metrics::default());
        let get = async |path: &str| {
            let response =
                router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
            let status = response.status();
            let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
            (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(get("/readyz").await, (503, "waiting for the log\n".into()));
        assert_eq!(get("/healthz").await, (200, "ok\n".into()));
        gate.open();
        assert_eq!(get("/readyz").await, (200, "ready\n".into()));
        assert_eq!(get("/metrics").await, (200, "# EOF\n".into()));
    }
}
