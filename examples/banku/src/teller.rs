//! What the saga `send` asks of the two banks: to take an amount out of an account here, to give it back, to pay it in there.
//!
//! ```text
//! POST /v1/withdrawals  {SendId, AccId, Amount}   here    SendWithdrawEvent, or refused
//! POST /v1/returns      {SendId, AccId}           here    SendReturnEvent
//! POST /v1/deposits     {SendId, AccId, Amount}   there   ReceiveEvent, or refused
//! ```
//! The teller keeps nothing itself: what it has done for a sending stands in the account's own stream, and each append expects the
//! version that was decided on. So a repeated request finds what the first one did; a return that comes first is found by the withdrawal
//! that comes late; and a refusal is an event too (a return of nothing), so that no repetition takes effect when it could later.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use headwater_core::{Error, Expected, StreamId, Version};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::account::{Account, Sending};
use crate::accounts::Accounts;
use crate::bank::{DECISIONS, Failure};
use crate::event::{Event, MAX_AMOUNT};
use crate::refusal::Refusal;
use crate::views::Views;

/// Of event ids that are derived from a sending's. Never changes.
const NAMESPACE: Uuid = Uuid::from_u128(0x3b1e_6a52_7c0d_4f43_8d0a_91c5_5e27_06bf);

/// As long as the event streams' schemas allow ids to be.
const MAX_ID_BYTES: usize = 200;

/// Both banks, and what the projection of the one here has seen.
pub(crate) struct Teller {
    pub(crate) here: Accounts,
    pub(crate) there: Accounts,
    pub(crate) views: Views,
}

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Asked {
    send_id: String,
    acc_id: String,
    /// Not for a return: what had left the account comes back.
    #[serde(default)]
    amount: u64,
}

type Answer = Result<Json<Value>, No>;

/// Why something is not done.
enum No {
    /// It is no request of ours.
    Wrong(String),
    /// It is not done, and never will be.
    Refused(Refusal),
    /// It may have been done or not: ask again.
    Unknown(String),
}

impl From<Failure> for No {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::Refused(refusal),
            Failure::Broken(error) => Self::Unknown(format!("{error:#}")),
        }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let (status, detail) = match self {
            Self::Wrong(detail) => (StatusCode::BAD_REQUEST, detail),
            Self::Refused(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, refusal.to_string()),
            Self::Unknown(detail) => (StatusCode::SERVICE_UNAVAILABLE, detail),
        };
        (status, Json(json!({"detail": detail}))).into_response()
    }
}

/// Serves `teller` on `listener`.
///
/// # Errors
/// When the listener fails.
pub(crate) async fn serve(teller: Teller, listener: TcpListener) -> anyhow::Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/v1/withdrawals", post(withdraw))
        .route("/v1/returns", post(give_back))
        .route("/v1/deposits", post(deposit))
        .with_state(Arc::new(teller));
    axum::serve(listener, router).await.context("serving")
}

type Body = Result<Json<Asked>, JsonRejection>;

async fn withdraw(State(teller): State<Arc<Teller>>, body: Body) -> Answer {
    teller.answer(Wish::Withdraw, &amount_of(body)?).await
}

async fn give_back(State(teller): State<Arc<Teller>>, body: Body) -> Answer {
    teller.answer(Wish::Return, &read(body)?).await
}

async fn deposit(State(teller): State<Arc<Teller>>, body: Body) -> Answer {
    teller.answer(Wish::Deposit, &amount_of(body)?).await
}

fn read(body: Body) -> Result<Asked, No> {
    let Json(asked) = body.map_err(|error| No::Wrong(error.body_text()))?;
    for (field, id) in [("SendId", &asked.send_id), ("AccId", &asked.acc_id)] {
        if !(1..=MAX_ID_BYTES).contains(&id.len()) {
            return Err(No::Wrong(format!(
                "{field}: it has {} bytes, and may have 1 to {MAX_ID_BYTES}",
                id.len()
            )));
        }
    }
    // No account is called so, now or later: a definite no.
    StreamId::new(format!("account-{}", asked.acc_id))
        .map_err(|error| No::Wrong(format!("AccId: {error}")))?;
    Ok(asked)
}

fn amount_of(body: Body) -> Result<Asked, No> {
    let asked = read(body)?;
    if !(1..=MAX_AMOUNT).contains(&asked.amount) {
        return Err(No::Wrong(format!("Amount: {} is no whole number from 1 to {MAX_AMOUNT}", asked.amount)));
    }
    Ok(asked)
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Withdraw,
    Return,
    Deposit,
}

/// What a look at an account comes to.
enum Decision {
    /// It was decided before, like this.
    Was(Result<&'static str, Refusal>),
    /// It is so when this event is stored at the version that was looked at.
    Store(Event, Result<&'static str, Refusal>),
}

impl Teller {
    async fn answer(&self, wish: Wish, asked: &Asked) -> Answer {
        Ok(Json(json!({"state": self.carry_out(wish, asked).await?})))
    }

    /// Looks at the account, and stores what follows; again whenever somebody else was faster.
    async fn carry_out(&self, wish: Wish, asked: &Asked) -> Result<&'static str, Failure> {
        let accounts = match wish {
            Wish::Withdraw | Wish::Return => &self.here,
            Wish::Deposit => &self.there,
        };
        let mut account = accounts.read(&asked.acc_id).await?;
        for _ in 0..DECISIONS {
            let decision = match wish {
                Wish::Withdraw => self.withdraw(asked, &account).await?,
                Wish::Return => give(asked, &account),
                Wish::Deposit => take(asked, &account),
            };
            let (event, outcome) = match decision {
                Decision::Was(outcome) => return Ok(outcome?),
                Decision::Store(event, outcome) => (event, outcome),
            };
            let expected = match account.version() {
                0 => Expected::NoStream,
                version => Expected::Version(Version::new(version)),
            };
            let id = Uuid::new_v5(&NAMESPACE, format!("{}/{}", asked.send_id, event.event_type()).as_bytes());
            match accounts.append(&event, Some(id), expected).await {
                Ok(_) => return Ok(outcome?),
                Err(Error::WrongVersion { .. }) => accounts.read_on(&mut account).await?,
                Err(error) => return Err(anyhow!(error).context("storing what was decided").into()),
            }
        }
        Err(anyhow!(
            "account {} changed {DECISIONS} times while it was being decided; ask again",
            asked.acc_id
        )
        .into())
    }

    async fn withdraw(&self, asked: &Asked, account: &Account) -> anyhow::Result<Decision> {
        match account.sending(&asked.send_id) {
            Some(Sending::Withdrawn(_)) => return Ok(Decision::Was(Ok("withdrawn"))),
            Some(_) => return Ok(Decision::Was(Err(Refusal::Returned(asked.send_id.clone())))),
            None => {}
        }
        let mut checked = account.check_debit(asked.amount, self.views.incoming(&asked.acc_id, None).await?);
        if matches!(checked, Err(Refusal::InsufficientBalance { .. })) {
            // The projection may be behind: what has come in by now counts.
            let end = self.here.end().await.context("the end of the event stream")?;
            checked =
                account.check_debit(asked.amount, self.views.incoming(&asked.acc_id, Some(&end)).await?);
        }
        Ok(match checked {
            Ok(()) => {
                let (acc_id, send_id) = (asked.acc_id.clone(), asked.send_id.clone());
                let event = Event::SendWithdraw { acc_id, send_id, amount: asked.amount };
                Decision::Store(event, Ok("withdrawn"))
            }
            Err(refusal) => Decision::Store(asked.returned(0), Err(refusal)),
        })
    }
}

fn give(asked: &Asked, account: &Account) -> Decision {
    match account.sending(&asked.send_id) {
        Some(Sending::Returned) => Decision::Was(Ok("returned")),
        Some(Sending::Withdrawn(amount)) => Decision::Store(asked.returned(amount), Ok("returned")),
        // It has not left the account, and now it never will.
        Some(Sending::Received) | None => Decision::Store(asked.returned(0), Ok("returned")),
    }
}

fn take(asked: &Asked, account: &Account) -> Decision {
    match account.sending(&asked.send_id) {
        Some(Sending::Received) => Decision::Was(Ok("received")),
        Some(_) => Decision::Was(Err(Refusal::Returned(asked.send_id.clone()))),
        None => match account.check_open() {
            Ok(()) => {
                let (acc_id, send_id) = (asked.acc_id.clone(), asked.send_id.clone());
                Decision::Store(Event::Receive { acc_id, send_id, amount: asked.amount }, Ok("received"))
            }
            Err(refusal) => Decision::Store(asked.returned(0), Err(refusal)),
        },
    }
}

impl Asked {
    fn returned(&self, amount: u64) -> Event {
        Event::SendReturn { acc_id: self.acc_id.clone(), send_id: self.send_id.clone(), amount }
    }
}
