//! A shop whose services keep a ledger, and a coordinator that can be killed at any point.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use headwater_core::{
    Append, Appended, EventType, Expected, Metadata, NewEvent, PartitionCount, Result, StreamId,
};
use headwater_log::{Clock, LogReader, LogStore, LogWriter, MemoryStore, Sequencer, SequencerOptions};
use headwater_resources::manifest::read_texts;
use headwater_resources::{EventStreamSpec, SagaSpec};
use headwater_runtime::Metrics;
use headwater_saga::{
    Answer, Call, Caller, Counts, Instance, Json, Parts, Request, Response, SagaCatalog, SagaMetrics,
    SagaService, State,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Bytes of a very long receipt: what a history keeps of an answer.
pub(crate) const LONG: usize = 250 << 10;

/// Only a failing test waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Where a coordinator is killed: nothing passes any more once the point is reached.
#[derive(Debug)]
pub(crate) struct Killer {
    passed: AtomicUsize,
    at: usize,
    pub(crate) dead: CancellationToken,
}

impl Killer {
    /// Kills at the point `at`, from 0.
    pub(crate) fn at(at: usize) -> Arc<Self> {
        Arc::new(Self { passed: AtomicUsize::new(0), at, dead: CancellationToken::new() })
    }

    pub(crate) fn never() -> Arc<Self> {
        Self::at(usize::MAX)
    }

    /// Points that were passed.
    pub(crate) fn passed(&self) -> usize {
        self.passed.load(Ordering::SeqCst)
    }

    /// A point: returns, or never, when the coordinator is dead.
    async fn point(&self) {
        if self.passed.fetch_add(1, Ordering::SeqCst) >= self.at {
            self.dead.cancel();
        }
        if self.dead.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }
}

/// The saga's log, with points before and after each record.
struct Records {
    log: Sequencer,
    killer: Arc<Killer>,
}

#[async_trait]
impl LogWriter for Records {
    async fn append(&self, request: Append) -> Result<Appended> {
        self.killer.point().await;
        let appended = self.log.append(request).await;
        self.killer.point().await;
        appended
    }
}

/// What a participant does with one attempt of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Takes effect and answers.
    Answer,
    /// Takes effect, and the answer is lost.
    LoseAnswer,
    /// Nothing arrives.
    LoseRequest,
    /// Refuses, for good.
    Refuse,
    /// Gets the request twice, and answers the second.
    Repeat,
    /// Gets the request when the test lets it, long after the coordinator has given up the answer.
    Delay,
    /// Takes effect and answers when the test lets it.
    Hold,
    /// Takes effect and answers with a very long receipt.
    AnswerAtLength,
    /// Cannot be asked: there is no file left for a connection.
    CannotAsk,
}

/// A request that is still on its way.
#[derive(Debug)]
struct Delayed {
    order: String,
    step: String,
    direction: String,
    key: String,
}

/// What the participants have done, by `ORDER STEP`.
#[derive(Debug, Default, Clone)]
pub(crate) struct Entry {
    /// Did it; at most once, whatever was asked how often.
    pub(crate) done: bool,
    pub(crate) undone: bool,
    /// Under which it was asked, by direction.
    pub(crate) keys: BTreeMap<String, BTreeSet<String>>,
    pub(crate) effects: usize,
}

type Script = dyn Fn(&str, &str, usize) -> Does + Send + Sync;

/// The services of a shop: `http://shop/STEP/do` and `…/undo`, with `{"id": ORDER}`.
pub(crate) struct Shop {
    ledger: Mutex<HashMap<String, Entry>>,
    attempts: Mutex<HashMap<String, usize>>,
    script: Box<Script>,
    delayed: Mutex<Vec<Delayed>>,
    /// For steps whose reply is an event.
    events: Sequencer,
    replying: AtomicBool,
    held: Notify,
}

impl Shop {
    /// Lets the answer go that is held, or the next one that will be.
    pub(crate) fn let_go(&self) {
        self.held.notify_one();
    }

    /// What was done so far, by `ORDER STEP`.
    pub(crate) fn ledger(&self) -> HashMap<String, Entry> {
        self.ledger.lock().unwrap().clone()
    }

    pub(crate) fn keep_silent(&self) {
        self.replying.store(false, Ordering::SeqCst);
    }

    /// Has the requests that are still on their way arrive, and says how many they were.
    pub(crate) async fn deliver_delayed(&self) -> usize {
        let delayed = std::mem::take(&mut *self.delayed.lock().unwrap());
        for Delayed { order, step, direction, key } in &delayed {
            self.serve(order, step, direction, key).await;
        }
        delayed.len()
    }

    /// Does what is asked; a step whose reply is an event tells of it, each time.
    async fn serve(&self, order: &str, step: &str, direction: &str, key: &str) -> Answer {
        let answer = self.handle(order, step, direction, key);
        if step == "ask" && direction == "do" && matches!(answer, Answer::Success(_)) {
            self.reply(order, step, "Granted").await;
        }
        answer
    }

    /// The services keep what they did by key, accept a compensation first, and refuse the action then.
    fn handle(&self, order: &str, step: &str, direction: &str, key: &str) -> Answer {
        let mut ledger = self.ledger.lock().unwrap();
        let entry = ledger.entry(format!("{order} {step}")).or_default();
        entry.keys.entry(direction.to_owned()).or_default().insert(key.to_owned());
        if direction == "undo" {
            entry.undone = true;
        } else if entry.undone && !entry.done {
            return Answer::Failure { reason: "409 Conflict: it was withdrawn".into(), response: None };
        } else if !entry.done {
            entry.done = true;
            entry.effects += 1;
        }
        let body = format!(
            r#"{{"status": 200, "headers": {{}}, "body": {{"receipt": "{step}-{order}", "fee": 0.10}}}}"#
        );
        Answer::Success(Response { summary: "200 OK".into(), value: Json::parse(body).unwrap() })
    }

    async fn reply(&self, order: &str, step: &str, event_type: &str) {
        if !self.replying.load(Ordering::SeqCst) {
            return;
        }
        // A service that is asked twice may say so twice, by two events.
        let id = Uuid::new_v4();
        let data = format!(r#"{{"id": "{order}", "note": "{step}"}}"#);
        let event = NewEvent { id, ..NewEvent::json(EventType::new(event_type).unwrap(), data) };
        let stream_id = StreamId::new(format!("{step}-{order}")).unwrap();
        self.events.append(Append { stream_id, expected: Expected::Any, events: vec![event] }).await.unwrap();
    }
}

/// Sends to the shop, with points before and after each call.
struct Sender {
    shop: Arc<Shop>,
    killer: Arc<Killer>,
    events: Sequencer,
}

#[async_trait]
impl Caller for Sender {
    async fn call(&self, call: &Call) -> Answer {
        self.killer.point().await;
        let answer = match &call.request {
            Request::Http(http) => {
                let path: Vec<&str> = http.url.trim_start_matches("http://shop/").split('/').collect();
                let [step, direction] = path[..] else { panic!("{}", http.url) };
                let body: serde_json::Value =
                    serde_json::from_str(http.body.as_ref().unwrap().as_str()).unwrap();
                let order = body["id"].as_str().unwrap();
                let attempt = {
                    let mut attempts = self.shop.attempts.lock().unwrap();
                    let count = attempts.entry(call.key.clone()).or_default();
                    *count += 1;
                    *count
                };
                let lost = || Answer::Unanswered { reason: "no answer, by injection".into() };
                match (self.shop.script)(&format!("{step}/{direction}"), order, attempt) {
                    Does::LoseRequest => lost(),
                    Does::Refuse => {
                        if step == "ask" {
                            self.shop.reply(order, step, "Refused").await;
                        }
                        Answer::Failure {
                            reason: "409 Conflict: refused, by injection".into(),
                            response: None,
                        }
                    }
                    Does::Delay => {
                        let (order, step, direction) = (order.into(), step.into(), direction.into());
                        let delayed = Delayed { order, step, direction, key: call.key.clone() };
                        self.shop.delayed.lock().unwrap().push(delayed);
                        lost()
                    }
                    Does::CannotAsk => Answer::NotTried { reason: "no file left, by injection".into() },
                    Does::Hold => {
                        self.shop.held.notified().await;
                        self.shop.serve(order, step, direction, &call.key).await
                    }
                    Does::AnswerAtLength => {
                        let Answer::Success(mut response) =
                            self.shop.serve(order, step, direction, &call.key).await
                        else {
                            panic!("{step} was withdrawn");
                        };
                        let body = format!(r#"{{"body": {{"receipt": "{}"}}}}"#, "x".repeat(LONG));
                        response.value = Json::parse(body).unwrap();
                        Answer::Success(response)
                    }
                    Does::Answer => self.shop.serve(order, step, direction, &call.key).await,
                    Does::LoseAnswer => {
                        self.shop.serve(order, step, direction, &call.key).await;
                        lost()
                    }
                    Does::Repeat => {
                        self.shop.serve(order, step, direction, &call.key).await;
                        self.shop.serve(order, step, direction, &call.key).await
                    }
                }
            }
            Request::Append(append) => {
                let metadata = format!(r#"{{"idempotency_key": "{}"}}"#, call.key);
                let event = NewEvent {
                    id: Uuid::new_v5(&Uuid::NAMESPACE_URL, call.key.as_bytes()),
                    metadata: Metadata::new(metadata.into()).unwrap(),
                    ..NewEvent::json(
                        EventType::new(&append.event_type).unwrap(),
                        append.data.as_str().to_owned(),
                    )
                };
                let stream_id = StreamId::new(&append.stream_id).unwrap();
                let request = Append { stream_id, expected: Expected::Any, events: vec![event] };
                match self.events.append(request).await {
                    Ok(_) => Answer::Success(Response {
                        summary: "appended".into(),
                        value: Json::parse("{}").unwrap(),
                    }),
                    Err(error) => Answer::Unanswered { reason: error.to_string() },
                }
            }
            Request::Grpc(_) => panic!("no test does"),
        };
        self.killer.point().await;
        answer
    }
}

/// Logs, services, and what is declared over them.
pub(crate) struct World {
    pub(crate) events: Arc<MemoryStore>,
    pub(crate) writer: Sequencer,
    pub(crate) log: Arc<MemoryStore>,
    pub(crate) shop: Arc<Shop>,
    spec: SagaSpec,
    stream: EventStreamSpec,
}

pub(crate) fn specs(saga: &str) -> (SagaSpec, EventStreamSpec) {
    let yaml = format!(
        "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {{name: orders}}\nspec: {{partitions: 2}}\n---\n\
         apiVersion: headwater.dev/v1alpha1\nkind: Saga\nmetadata: {{name: place}}\nspec:\n  streamRef: {{name: orders}}\n  \
         startOn: {{events: [Placed]}}\n  instance: \"${{event.data.id}}\"\n  variables: {{id: event.data.id, amount: event.data.amount}}\n{saga}"
    );
    let manifests = read_texts([("test.yaml", yaml.as_str())]);
    let faults: Vec<String> = manifests.errors().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    (manifests.sagas[0].spec.clone(), manifests.event_streams[0].spec.clone())
}

impl World {
    /// A world for the saga whose steps are `saga`, with services that do as `script` says of `STEP/DIRECTION`, order and attempt.
    pub(crate) fn new(
        saga: &str,
        script: impl Fn(&str, &str, usize) -> Does + Send + Sync + 'static,
    ) -> Self {
        let partitions = PartitionCount::new(2).unwrap();
        let events = Arc::new(MemoryStore::new(partitions));
        let writer = Sequencer::start(Arc::clone(&events) as Arc<dyn LogStore>, SequencerOptions::default());
        let shop = Arc::new(Shop {
            ledger: Mutex::default(),
            attempts: Mutex::default(),
            script: Box::new(script),
            delayed: Mutex::default(),
            events: writer.clone(),
            replying: AtomicBool::new(true),
            held: Notify::new(),
        });
        let (spec, stream) = specs(saga);
        Self { events, writer, log: Arc::new(MemoryStore::new(partitions)), shop, spec, stream }
    }

    /// A coordinator, which `killer` kills.
    pub(crate) async fn coordinator(&self, killer: &Arc<Killer>) -> SagaService {
        self.coordinator_of(killer, &self.spec).await
    }

    pub(crate) async fn coordinator_of(&self, killer: &Arc<Killer>, spec: &SagaSpec) -> SagaService {
        self.coordinator_over(Arc::clone(&self.events) as Arc<dyn LogReader>, killer, spec).await
    }

    /// A coordinator that reads the event stream through `events`.
    pub(crate) async fn coordinator_over(
        &self,
        events: Arc<dyn LogReader>,
        killer: &Arc<Killer>,
        spec: &SagaSpec,
    ) -> SagaService {
        self.try_coordinator("default", events, killer, spec).await.unwrap()
    }

    /// A coordinator of a saga in this namespace.
    pub(crate) async fn try_coordinator(
        &self,
        namespace: &str,
        events: Arc<dyn LogReader>,
        killer: &Arc<Killer>,
        spec: &SagaSpec,
    ) -> Result<SagaService> {
        SagaService::start(self.parts(namespace, events, killer), spec, &self.stream).await
    }

    /// One that looks on while the other, called `coordinator`, coordinates.
    pub(crate) async fn standby(&self, coordinator: Option<&'static str>) -> SagaService {
        let events = Arc::clone(&self.events) as Arc<dyn LogReader>;
        let parts = self.parts("default", events, &Killer::never());
        let coordinator = Arc::new(move || coordinator.map(str::to_owned));
        SagaService::stand_by(parts, &self.spec, &self.stream, coordinator).await.unwrap()
    }

    fn parts(&self, namespace: &str, events: Arc<dyn LogReader>, killer: &Arc<Killer>) -> Parts {
        let log = Sequencer::start(Arc::clone(&self.log) as Arc<dyn LogStore>, SequencerOptions::default());
        Parts {
            namespace: namespace.into(),
            name: "place".into(),
            events,
            log: Arc::clone(&self.log) as Arc<dyn LogReader>,
            writer: Arc::new(Records { log, killer: Arc::clone(killer) }),
            caller: Arc::new(Sender {
                shop: Arc::clone(&self.shop),
                killer: Arc::clone(killer),
                events: self.writer.clone(),
            }),
            clock: Clock::system(),
            metrics: SagaMetrics::new(&Metrics::default(), SagaCatalog::default()),
            counts: Counts::default(),
            leads: Arc::new(|| true),
        }
    }

    pub(crate) fn spec(&self) -> &SagaSpec {
        &self.spec
    }

    pub(crate) fn stream(&self) -> &EventStreamSpec {
        &self.stream
    }

    pub(crate) async fn place(&self, order: &str) -> Uuid {
        let data = format!(r#"{{"id": "{order}", "amount": 19.90}}"#);
        self.tell(&format!("order-{order}"), "Placed", data).await
    }

    /// Appends an event, and gives its id.
    pub(crate) async fn tell(&self, stream_id: &str, event_type: &str, data: String) -> Uuid {
        let event = NewEvent::json(EventType::new(event_type).unwrap(), data);
        let id = event.id;
        let stream_id = StreamId::new(stream_id).unwrap();
        self.writer.append(Append { stream_id, expected: Expected::Any, events: vec![event] }).await.unwrap();
        id
    }

    /// The types of the events of one stream id.
    pub(crate) async fn types(&self, stream_id: &str) -> Vec<String> {
        let page = self
            .events
            .read_stream(headwater_log::ReadStream {
                stream_id: StreamId::new(stream_id).unwrap(),
                from: None,
                direction: headwater_log::Direction::Forwards,
                limit: 1_000,
                max_bytes: 1 << 20,
            })
            .await
            .unwrap();
        page.events.iter().map(|event| event.event_type.to_string()).collect()
    }

    /// What must hold of every order, however it went.
    #[track_caller]
    pub(crate) fn check_ledger(&self, order: &str, state: State) {
        for (name, entry) in self.shop.ledger() {
            if name.split(' ').next() != Some(order) {
                continue;
            }
            for (direction, keys) in &entry.keys {
                assert_eq!(keys.len(), 1, "{name} {direction}: {keys:?}");
            }
            assert!(entry.effects <= 1, "{name} took effect {} times", entry.effects);
            match state {
                State::Completed => assert!(entry.done && !entry.undone, "{name}: {entry:?}"),
                State::Compensated => assert!(!entry.done || entry.undone, "{name}: {entry:?}"),
                other => panic!("{order} is {other:?}"),
            }
        }
    }
}

/// Waits until an instance is as `wanted` says.
pub(crate) async fn until(
    service: &SagaService,
    order: &str,
    wanted: impl Fn(&Instance) -> bool,
) -> Instance {
    let looking = async {
        loop {
            match service.show(order).await {
                Ok(shown) if wanted(&shown) => return shown,
                Ok(_) | Err(headwater_core::Error::NotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            // Memory answers at once; the coordinator gets its turn.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(shown) => shown,
        Err(tokio::time::error::Elapsed { .. }) => {
            panic!("{order} is not as wanted in time: {:#?}", service.show(order).await)
        }
    }
}

pub(crate) async fn ended(service: &SagaService, order: &str) -> Instance {
    until(service, order, |shown| shown.summary.state.is_ended()).await
}

/// What happened, in short: `StepBegun pay do`.
pub(crate) fn told(shown: &Instance) -> Vec<String> {
    let line = |line: &headwater_saga::Line| {
        let step = line.step.as_deref().unwrap_or_default();
        let direction = line.direction.map_or("", headwater_saga::Direction::as_str);
        format!("{} {step} {direction}", line.what).trim().to_owned()
    };
    shown.history.iter().map(line).collect()
}
