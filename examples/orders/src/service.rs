//! The order service: HTTP in front, events behind.
//!
//! ```text
//! POST /api/orders      ──▶ order-created ──▶ event stream `orders`
//! GET  /api/orders/{id} ◀── projection `orders`      (POST's Location waits for what it has stored)
//! ```
//!
//! Amounts are numbers in events, as the article's are, and text in answers, which no client can round by accident.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use headwater_api::{Client, Problem};
use headwater_core::{Append, Error, EventType, Expected, Metadata, NewEvent, StreamId, Token};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::event::{Created, Event, created_id, stream_id};
use crate::order::NewOrder;
use crate::views::Views;

/// The header that carries the place of what was stored.
const TOKEN: &str = "headwater-token";

struct Service {
    store: Client,
    views: Views,
}

/// Serves on `listener` for ever.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn run(listener: TcpListener, store: Client, views: Views) -> anyhow::Result<()> {
    let service = Arc::new(Service { store, views });
    let routes = Router::new()
        .route("/api/orders", post(place_order))
        .route("/api/orders/{order_id}", get(show_order))
        .route("/healthz", get(async || "ok"))
        .with_state(service);
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, routes).await?)
}

/// `POST /api/orders`: 201 when the order is durable. With an `order_id` of the client's, sending it again changes nothing.
async fn place_order(State(service): State<Arc<Service>>, body: Bytes) -> Result<Response, Problem> {
    let order: NewOrder = serde_json::from_slice(&body)
        .map_err(|error| Error::invalid("body", format!("no order: {error}")))?;
    let order_id = order.order_id.unwrap_or_else(Uuid::new_v4);
    let created = order.place(order_id)?;
    let token = service.store_order(order_id, &created).await?;
    let headers = [
        (header::LOCATION.as_str(), format!("/api/orders/{order_id}?min_token={token}")),
        (TOKEN, token.to_string()),
    ];
    let answer = json!({
        "order_id": created.order_id,
        "customer_id": created.customer_id,
        "restaurant_id": created.restaurant_id,
        "status": created.status,
        "amount": created.amount.to_string(),
    });
    Ok((StatusCode::CREATED, headers, Json(answer)).into_response())
}

#[derive(Deserialize)]
struct ShowOrder {
    /// Wait until the read model has come this far.
    min_token: Option<String>,
}

/// `GET /api/orders/{order_id}`: the order as the read model has it, with its lines.
async fn show_order(
    State(service): State<Arc<Service>>,
    Path(order_id): Path<String>,
    Query(query): Query<ShowOrder>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let header = headers.get("headwater-min-token").and_then(|token| token.to_str().ok());
    let min_token = query.min_token.as_deref().or(header);
    Ok(Json(service.views.order(&order_id, min_token).await?).into_response())
}

impl Service {
    async fn store_order(&self, order_id: Uuid, created: &Created) -> headwater_core::Result<Token> {
        let (event_type, data) = Event::Created(created.clone()).to_json()?;
        let metadata = json!({"correlation_id": order_id});
        let event = NewEvent {
            id: created_id(order_id),
            metadata: Metadata::new(metadata.to_string().into())?,
            ..NewEvent::json(EventType::new(event_type)?, data)
        };
        let stream_id = StreamId::new(stream_id(&created.order_id))?;
        let append = Append { stream_id, expected: Expected::NoStream, events: vec![event] };
        Ok(self.store.append(&append).await?.token())
    }
}
