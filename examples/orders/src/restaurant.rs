//! The restaurant service: approves an order, or not. A participant of Saga `place-order`.
//!
//! ```text
//! POST /v1/approvals    {order_id, restaurant_id}  ─▶ ledger       409: closed, or unknown; late: asleep
//! POST /v1/withdrawals  {order_id}                 ─▶ ledger       also before, or without, an approval
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::TcpListener;

use crate::ledger::Refusal;
use crate::participant::{Book, Call, No, Undo};

/// How late a restaurant answers that is asleep: after the saga has given it up and withdrawn the order, so that the late approval is
/// seen to be refused.
const NAP: Duration = Duration::from_secs(6);

/// The restaurants that are known.
#[derive(Debug, Clone)]
pub(crate) struct Restaurants {
    /// Those that take orders.
    pub(crate) open: Vec<String>,
    /// Those that take none today.
    pub(crate) closed: Vec<String>,
    /// Those that take orders, but answer when nobody waits any more.
    pub(crate) asleep: Vec<String>,
}

/// What is to be approved. Lines of the order are the kitchen's, and beyond this example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Approval {
    order_id: String,
    restaurant_id: String,
}

struct RestaurantService {
    restaurants: Restaurants,
    ledger: Book<Approval>,
}

/// Serves on `listener` for ever, with the ledger in `data`.
///
/// # Errors
/// When the ledger cannot be opened or the listener fails.
pub(crate) async fn run(listener: TcpListener, data: &Path, restaurants: Restaurants) -> anyhow::Result<()> {
    let service = Arc::new(RestaurantService { restaurants, ledger: Book::open(data, "restaurant")? });
    let routes = Router::new()
        .route("/v1/approvals", post(approve))
        .route("/v1/withdrawals", post(withdraw))
        .route("/healthz", get(async || "ok"))
        .with_state(service);
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, routes).await?)
}

/// `POST /v1/approvals`. Goes on to its end also when the saga hangs up: what it then does comes late, as it may anywhere.
async fn approve(
    State(service): State<Arc<RestaurantService>>,
    call: Call<Approval>,
) -> Result<Response, No> {
    let approved = tokio::spawn(async move { service.approve(call).await }).await;
    approved.unwrap_or_else(|error| Err(No::Unknown(error.to_string())))
}

/// `POST /v1/withdrawals`: nobody cooks, or ever will.
async fn withdraw(State(service): State<Arc<RestaurantService>>, call: Call<Undo>) -> Result<Response, No> {
    let (key, order_id) = (call.key, call.body.order_id);
    let withdrawn = service.ledger.write(move |ledger| ledger.undo(&key, &order_id)).await?;
    println!("withdrawn: order {}", withdrawn.order_id);
    Ok(Json(json!({"order_id": withdrawn.order_id, "approval": "Withdrawn"})).into_response())
}

impl RestaurantService {
    async fn approve(self: Arc<Self>, call: Call<Approval>) -> Result<Response, No> {
        if self.restaurants.asleep.contains(&call.body.restaurant_id) {
            tokio::time::sleep(NAP).await;
        }
        let (key, approval, restaurants) = (call.key, call.body, self.restaurants.clone());
        let order_id = approval.order_id.clone();
        let entry = self.ledger.write(move |ledger| {
            let order_id = approval.order_id.clone();
            ledger.act(&key, &order_id, approval, |approval| restaurants.takes(&approval.restaurant_id))
        });
        let approved = entry.await.inspect_err(|no| println!("order {order_id}: {no:?}"))?;
        println!("approved: order {order_id}");
        Ok(Json(json!({"order_id": approved.order_id, "approval": "Approved"})).into_response())
    }
}

impl Restaurants {
    fn takes(&self, restaurant: &String) -> Result<(), Refusal> {
        if self.open.contains(restaurant) || self.asleep.contains(restaurant) {
            Ok(())
        } else if self.closed.contains(restaurant) {
            Err(Refusal::conflict(format!("restaurant {restaurant} is closed")))
        } else {
            Err(Refusal::conflict(format!("restaurant {restaurant} is unknown")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_restaurant_takes_orders() {
        let restaurants = Restaurants {
            open: vec!["luigi".into()],
            closed: vec!["chen".into()],
            asleep: vec!["sleepy".into()],
        };
        let check =
            |restaurant: &str| restaurants.takes(&restaurant.to_owned()).map_err(|refusal| refusal.detail);
        assert_eq!(check("luigi"), Ok(()));
        assert_eq!(check("sleepy"), Ok(()));
        assert_eq!(check("chen"), Err("restaurant chen is closed".into()));
        assert_eq!(check("nobody"), Err("restaurant nobody is unknown".into()));
    }
}
