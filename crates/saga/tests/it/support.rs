//! Surroundings that a test sets, participants, and what tests say about answers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use headwater_core::{Error, Result};
use headwater_log::LogWriter;
use headwater_resources::saga::HttpMethod;
use headwater_resources::shared::{DataKind, DataRef, SecretKeyRef};
use headwater_saga::{
    Answer, Call, Caller, Calls, HttpRequest, Json, Request, Response, Surroundings, Trace,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const KEY: &str = "shop/order/o-1/0190a7c8-6f5e-7cc0-8000-000000000001/debit/action";

/// What calls find.
#[derive(Default)]
pub(crate) struct World {
    objects: Mutex<HashMap<(String, String), Vec<u8>>>,
    addresses: Mutex<HashMap<String, String>>,
    streams: Mutex<HashMap<String, Arc<dyn LogWriter>>>,
}

impl World {
    pub(crate) fn set(&self, name: &str, key: &str, value: impl Into<Vec<u8>>) {
        self.objects.lock().unwrap().insert((name.into(), key.into()), value.into());
    }

    pub(crate) fn place(&self, host: &str, address: impl ToString) {
        self.addresses.lock().unwrap().insert(host.into(), address.to_string());
    }

    pub(crate) fn add_stream(&self, name: &str, stream: Arc<dyn LogWriter>) {
        self.streams.lock().unwrap().insert(name.into(), stream);
    }

    fn object(&self, name: &str, key: &str) -> Result<Vec<u8>> {
        let known = self.objects.lock().unwrap().get(&(name.into(), key.into())).cloned();
        known.ok_or_else(|| Error::not_found(format!("there is no key {key} of {name} here")))
    }
}

impl Surroundings for World {
    fn secret(&self, key: &SecretKeyRef) -> Result<Vec<u8>> {
        self.object(&key.name, &key.key)
    }

    fn data(&self, key: &DataRef) -> Result<Vec<u8>> {
        self.object(&key.name, &key.key)
    }

    fn address(&self, host: &str) -> Option<String> {
        self.addresses.lock().unwrap().get(host).cloned()
    }

    fn stream(&self, name: &str) -> Option<Arc<dyn LogWriter>> {
        self.streams.lock().unwrap().get(name).cloned()
    }
}

/// A caller and its surroundings.
pub(crate) fn calls() -> (Calls, Arc<World>) {
    let world = Arc::new(World::default());
    (Calls::new(world.clone()).unwrap(), world)
}

pub(crate) fn call(request: Request) -> Call {
    Call {
        key: KEY.to_owned(),
        timeout: Duration::from_secs(20),
        trace: Trace {
            correlation_id: "c-1".to_owned(),
            causation_id: "0190a7c8-6f5e-7cc0-8000-000000000001".to_owned(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        },
        request,
    }
}

pub(crate) fn post(url: impl Into<String>, body: &str) -> HttpRequest {
    HttpRequest {
        method: HttpMethod::Post,
        url: url.into(),
        headers: Vec::new(),
        body: Some(Json::parse(body).unwrap()),
        tls: None,
    }
}

pub(crate) async fn send(calls: &Calls, request: HttpRequest) -> Answer {
    calls.call(&call(Request::Http(request))).await
}

pub(crate) fn config_map(name: &str, key: &str) -> DataRef {
    DataRef { kind: DataKind::ConfigMap, name: name.into(), key: key.into() }
}

/// A participant. Ends when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        Self::over(TcpListener::bind("127.0.0.1:0").await.unwrap(), router)
    }

    pub(crate) fn over(listener: impl Listener<Addr = SocketAddr>, router: Router) -> Self {
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An address where nobody listens.
pub(crate) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[track_caller]
pub(crate) fn success(answer: Answer) -> Response {
    match answer {
        Answer::Success(response) => response,
        other => panic!("no success: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn failure(answer: Answer) -> String {
    match answer {
        Answer::Failure { reason, .. } => reason,
        other => panic!("no failure: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn unanswered(answer: Answer) -> String {
    match answer {
        Answer::Unanswered { reason } => reason,
        other => panic!("this is an answer: {other:?}"),
    }
}

/// A part of a response, as JSON's text.
#[track_caller]
pub(crate) fn part(response: &Response, name: &str) -> String {
    let parts: HashMap<String, Json> = serde_json::from_str(response.value.as_str()).unwrap();
    parts[name].as_str().to_owned()
}

#[track_caller]
pub(crate) fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text:?}");
    }
}
