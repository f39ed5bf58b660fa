//! What answers at the addresses of KWOK's pods, which lead to this machine: what workers say who are well.

use std::future::ready;

use anyhow::Result;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::task::JoinSet;

/// Serves until it is dropped.
pub(super) fn serve() -> Result<JoinSet<()>> {
    let log = json!({"log_id": "bench", "partitions": [{"partition": 0, "position": "0", "epoch": "1", "relay": null}]});
    let revision = json!({"revision": "1", "digest": "bench", "created_at": "2026-01-01T00:00:00Z"});
    let projection = json!({
        "digest": "bench", "active": revision, "candidate": null, "previous": null, "held_digest": null,
        "rollout": "Promoted", "message": null, "lag": {"events": "0", "seconds": 0}, "parked": 0,
    });
    let saga = json!({"definition": "bench", "running": 0, "compensating": 0, "needs_attention": 0, "message": null});
    let mut serving = JoinSet::new();
    for (port, path, answer) in [
        (50051, "/v1/partitions", log),
        (8082, "/v1/admin/projections/{name}", projection),
        (8081, "/v1/sagas/{name}", saga),
    ] {
        let listener = std::net::TcpListener::bind(("0.0.0.0", port))?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let router = Router::new().route(path, get(move || ready(Json(answer.clone()))));
        serving.spawn(async move {
            // It ends with the benchmark.
            let _ = axum::serve(listener, router).await;
        });
    }
    Ok(serving)
}
