//! `/healthz`, `/readyz` and `/metrics`.

use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};

use crate::auth::Discreet;
use crate::{Metrics, Readiness};

/// The routes that a platform asks: `/healthz` (200 while the process turns), `/readyz` (200, or 503 with what is waited for, one
/// a line) and `/metrics`. Where callers prove who they are, `/readyz` tells anybody what is waited for, and why only the log: what follows a
/// colon is left out.
pub fn router(readiness: Readiness, metrics: Metrics) -> Router {
    let ready = async move |discreet: Option<Extension<Discreet>>| ready(&readiness, discreet.is_some());
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async move || render(&metrics)))
}

fn ready(readiness: &Readiness, discreet: bool) -> Response {
    let mut waiting = readiness.waiting_for();
    if waiting.is_empty() {
        return "ready\n".into_response();
    }
    if discreet {
        for what in &mut waiting {
            if let Some(end) = what.find(": ") {
                what.truncate(end);
            }
        }
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
        let router = router(readiness.clone(), Metrics::default());
        let get = async |path: &str| {
            let response =
                router.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
            let status = response.status();
            let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
            (status.as_u16(), String::from_utf8(body.to_vec()).unwrap())
        };
        assert_eq!(get("/readyz").await, (503, "waiting for the log\n".into()));
        assert_eq!(get("/healthz").await, (200, "ok\n".into()));
        let detailed = readiness.wait_for("the next try: no route to ada@db.internal");
        let told = async |router: &Router| {
            let request = Request::get("/readyz").body(Body::empty()).unwrap();
            let body = router.clone().oneshot(request).await.unwrap().into_body();
            String::from_utf8(to_bytes(body, 1 << 16).await.unwrap().to_vec()).unwrap()
        };
        assert!(told(&router).await.contains("waiting for the next try: no route to ada@db.internal\n"));
        let discreet = router.clone().layer(Extension(Discreet));
        assert_eq!(told(&discreet).await, "waiting for the log\nwaiting for the next try\n");
        detailed.open();
        gate.open();
        assert_eq!(get("/readyz").await, (200, "ready\n".into()));
        assert_eq!(get("/metrics").await, (200, "# EOF\n".into()));
    }
}
