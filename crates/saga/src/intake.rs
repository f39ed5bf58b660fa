//! Takes events of the event stream in: those that start instances, and those that are replies.
//!
//! ```text
//! event stream ──▶ starts?  ──▶ instance:ID, if there is none of that name
//!              └─▶ a reply? ──▶ wait:DIGEST ──▶ who waits ──▶ instance:ID
//!              └─▶ intake: how far                     all ids derived from the event's: a repeat changes nothing
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use headwater_core::{Error, EventType, Positions, RecordedEvent, Result, Token, Version};
use headwater_expr::{EventView, Expression, Scope, Template, Type, Upcasts, Variables};
use headwater_log::{Filter, LogReader, StartFrom, Subscription};
use headwater_resources::saga::SagaSpec;
use headwater_resources::shared::WorkState;
use headwater_runtime::trace;
use tokio::sync::watch;
use tracing::Instrument;

use crate::definition::Definition;
use crate::drive::Workshop;
use crate::history::{Cause, Entry, FORMAT, ReplySeen, Started, brief};
use crate::journal;
use crate::json::Json;
use crate::plan::Plan;
use crate::traced;

/// Events a batch.
const BATCH: usize = 500;
/// Bytes a batch.
const BATCH_BYTES: usize = 4 << 20;
/// Events of a batch that are taken in side by side.
const AT_ONCE: usize = 64;
/// Events that were none of ours after which it is kept all the same how far they were read.
const KEEP_AFTER: u64 = 10_000;

/// Bytes of a reply's data that a history keeps: an event has 1 MiB, and the rest of the entry its share of it.
const MAX_REPLY_BYTES: usize = 768 << 10;

/// What starts instances, compiled.
#[derive(Debug)]
pub(crate) struct Starting {
    pub(crate) plan: Arc<Plan>,
    /// Instances are started.
    pub(crate) is_open: bool,
    namespace: String,
    events: BTreeSet<String>,
    when: Option<Expression>,
    instance: Option<Template>,
    variables: Vec<(String, Expression)>,
}

impl Starting {
    /// # Errors
    /// `Invalid` for what is wrong with the definition.
    pub(crate) fn compile(spec: &SagaSpec, definition: &Definition, namespace: &str) -> Result<Self> {
        let scope = Scope::new().with("event", headwater_expr::event_type(Type::Any));
        let invalid = |path: &str, faults: Vec<headwater_expr::Fault>| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Error::invalid(path, faults.join("; "))
        };
        let compile = |path: &str, source: &str| {
            Expression::compile(source, &scope).map_err(|faults| invalid(path, faults))
        };
        let variables = spec
            .variables
            .iter()
            .map(|(name, source)| Ok((name.clone(), compile(&format!("variables.{name}"), source)?)))
            .collect::<Result<_>>()?;
        let instance = spec.instance.as_ref().map(|source| Template::compile(source, &scope)).transpose();
        Ok(Self {
            plan: Arc::new(Plan::compile(definition)?),
            is_open: spec.state == WorkState::Running,
            namespace: namespace.to_owned(),
            events: spec.start_on.events.iter().cloned().collect(),
            when: spec.start_on.when.as_ref().map(|when| compile("startOn.when", when)).transpose()?,
            instance: instance.map_err(|faults| invalid("instance", faults))?,
            variables,
        })
    }

    /// The instance that the event starts, if it does.
    fn start(&self, view: &EventView<'_>) -> Result<Option<Started>, String> {
        let event = Variables::new().with("event", view as &dyn headwater_expr::Object);
        let said = |error: headwater_expr::EvaluationError| error.to_string();
        if let Some(when) = &self.when {
            let value = when.evaluate(&event).map_err(said)?;
            if !value
                .as_bool()
                .ok_or_else(|| format!("startOn.when: `{}` is a {}", when.source(), value.type_name()))?
            {
                return Ok(None);
            }
        }
        let instance = match &self.instance {
            Some(template) => template.render(&event).map_err(said)?,
            None => view.event.stream_id.to_string(),
        };
        journal::check_name(&instance)?;
        let mut variables = BTreeMap::new();
        for (name, expression) in &self.variables {
            let value = expression.evaluate(&event).map_err(|error| format!("variables.{name}: {error}"))?;
            variables.insert(name.clone(), Json::of(&value));
        }
        Ok(Some(Started {
            format: FORMAT,
            namespace: Some(self.namespace.clone()),
            instance,
            definition: self.plan.digest.clone(),
            event: cause(view.event),
            variables,
        }))
    }
}

/// Bytes of what an event belongs to: every call and every event of its instance carries it. What is longer is left out.
const MAX_TRACE_BYTES: usize = 512;

fn cause(event: &RecordedEvent) -> Cause {
    let fits = |text: &String| text.len() <= MAX_TRACE_BYTES;
    Cause {
        id: event.id,
        event_type: event.event_type.to_string(),
        stream_id: event.stream_id.to_string(),
        partition: event.partition.get(),
        position: event.position.get(),
        time: event.recorded_at,
        correlation_id: event.metadata.text("correlation_id").filter(fits),
        traceparent: event.metadata.text("traceparent").filter(fits),
    }
}

/// What the intakes of a saga have counted since the process began. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct Counts(pub(crate) Arc<Taken>);

#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) started: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) not_started: AtomicU64,
    pub(crate) replies: AtomicU64,
    pub(crate) unmatched: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Reads the event stream for one saga.
pub(crate) struct Intake {
    pub(crate) workshop: Arc<Workshop>,
    pub(crate) events: Arc<dyn LogReader>,
    pub(crate) starting: watch::Receiver<Arc<Starting>>,
    pub(crate) counts: Counts,
    /// The version under which it was last kept how far it is.
    pub(crate) kept: Version,
    /// Where it is, for whoever waits.
    pub(crate) reached: watch::Sender<Positions>,
}

impl Intake {
    /// Takes events in from `positions` until an error.
    ///
    /// # Errors
    /// As the logs. What was taken in stays so.
    pub(crate) async fn run(&mut self, positions: &mut Positions) -> Result<()> {
        let log_id = self.events.descriptor().log_id;
        loop {
            let starting = Arc::clone(&self.starting.borrow_and_update());
            let mut types: BTreeSet<String> = BTreeSet::new();
            if starting.is_open {
                types.extend(starting.events.iter().cloned());
            }
            let plans = self.workshop.plans.all();
            for awaits in plans.iter().flat_map(|plan| plan.awaited()) {
                types.extend(awaits.events().cloned());
            }
            // While nothing starts, replies are taken in all the same, and read again with what starts when that is let: the place that
            // is kept stays before both.
            let held = (!starting.is_open).then(|| positions.clone());
            if types.is_empty() {
                self.starting.changed().await.map_err(|_| Error::Cancelled)?;
                continue;
            }
            let event_types = types.iter().map(EventType::new).collect::<Result<_>>()?;
            let filter = Filter { event_types, stream_id_prefix: None };
            let from = StartFrom::After(Token::new(log_id, positions.clone()));
            let mut subscription = Subscription::open(Arc::clone(&self.events), &from, filter).await?;
            let mut unkept = 0;
            loop {
                let batch = tokio::select! {
                    batch = subscription.next_batch(BATCH, BATCH_BYTES) => batch?,
                    changed = self.starting.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return Err(Error::Cancelled),
                    },
                };
                self.take(&starting, &plans, &batch.events).await?;
                let passed = distance(positions, &batch.token.positions);
                unkept += passed;
                *positions = batch.token.positions;
                if held.is_none() && (!batch.events.is_empty() || unkept >= KEEP_AFTER) {
                    self.kept = self.workshop.journal.moved(log_id, self.kept, positions).await?;
                    unkept = 0;
                }
                self.reached.send_replace(positions.clone());
            }
            if let Some(held) = held {
                *positions = held;
            }
        }
    }

    /// Events of one stream id in their order; others side by side.
    async fn take(&self, starting: &Starting, plans: &[Arc<Plan>], events: &[RecordedEvent]) -> Result<()> {
        let mut groups: BTreeMap<String, Vec<Work>> = BTreeMap::new();
        for work in events.iter().flat_map(|event| work(starting, plans, event)) {
            groups.entry(work.group()).or_default().push(work);
        }
        let group = |works: Vec<Work>| -> BoxFuture<'_, Result<()>> {
            Box::pin(async move {
                for work in works {
                    let span =
                        traced::process(&starting.plan.stream, &self.workshop.names.saga, work.event());
                    let done = self.carry_out(work).instrument(span.clone()).await;
                    done.inspect_err(|error| trace::fail_by(&span, error))?;
                }
                Ok(())
            })
        };
        let groups: Vec<_> = groups.into_values().map(group).collect();
        let mut results = futures_util::stream::iter(groups).buffer_unordered(AT_ONCE);
        while let Some(result) = results.next().await {
            result?;
        }
        Ok(())
    }

    async fn carry_out(&self, work: Work) -> Result<()> {
        let journal = &self.workshop.journal;
        match work {
            Work::Start(started) => {
                let (name, event) = (started.instance.clone(), started.event.clone());
                match journal.start(&name, event.id, &Entry::Started(started)).await {
                    Ok(true) => {
                        count(&self.counts.0.started);
                        self.workshop.table.wake(&name);
                    }
                    Ok(false) => count(&self.counts.0.ignored),
                    // It never fits, and others come after it.
                    Err(Error::Invalid { message, .. }) => {
                        self.refuse(
                            event,
                            format!("what is kept of it does not fit the saga's log: {message}"),
                        )
                        .await?;
                    }
                    Err(error) => return Err(error),
                }
            }
            Work::Refuse(event, reason) => self.refuse(event, reason).await?,
            Work::Reply(event, expression, value, data) => {
                let size = data.as_str().len();
                let mut seen = (data, None);
                if size > MAX_REPLY_BYTES {
                    seen = (Json::null(), Some(size as u64));
                }
                let mut matched = false;
                for waiting in journal.waiting(&expression, &value).await? {
                    if !waiting.events.contains(&event.event_type) {
                        continue;
                    }
                    // Nobody waits any more: an instance that has ended gets no more of a history.
                    if !self.workshop.table.is_open(&waiting.instance) {
                        continue;
                    }
                    matched = true;
                    let reply = |(data, left_out): (Json, Option<u64>)| {
                        let step = waiting.step.clone();
                        Entry::ReplySeen(ReplySeen { step, event: event.clone(), data, left_out })
                    };
                    let (instance, step) = (&waiting.instance, &waiting.step);
                    let kept = journal.reply(instance, step, event.id, &reply(seen.clone())).await;
                    if let (Err(Error::Invalid { .. }), None) = (&kept, seen.1) {
                        // Too deep, say. That it came counts all the same.
                        seen = (Json::null(), Some(size as u64));
                        journal.reply(instance, step, event.id, &reply(seen.clone())).await?;
                    } else {
                        kept?;
                    }
                    self.workshop.table.wake(&waiting.instance);
                }
                count(if matched { &self.counts.0.replies } else { &self.counts.0.unmatched });
            }
        }
        Ok(())
    }

    async fn refuse(&self, event: Cause, reason: String) -> Result<()> {
        count(&self.counts.0.not_started);
        trace::fail(&tracing::Span::current(), "not_started");
        tracing::warn!(saga = self.workshop.names.saga, event = %event.id, "an event cannot start an instance: {reason}");
        self.workshop.journal.not_started(event, brief(reason)).await
    }
}

/// What there is to do about an event.
fn work(starting: &Starting, plans: &[Arc<Plan>], event: &RecordedEvent) -> Vec<Work> {
    let mut works = Vec::new();
    if starting.is_open && starting.events.contains(event.event_type.as_str()) {
        let started = view(event, &starting.plan.upcasts).and_then(|view| starting.start(&view));
        match started {
            Ok(Some(started)) => works.push(Work::Start(started)),
            Ok(None) => {}
            Err(reason) => works.push(Work::Refuse(cause(event), reason)),
        }
    }
    let mut seen = BTreeSet::new();
    for plan in plans {
        for awaits in plan.awaited() {
            if !awaits.events().any(|name| name == event.event_type.as_str())
                || !seen.insert(awaits.event.source().to_owned())
            {
                continue;
            }
            // An event without a value for it is nobody's reply.
            let Ok(view) = view(event, &plan.upcasts) else { continue };
            let variables = Variables::new().with("event", &view as &dyn headwater_expr::Object);
            let value = awaits
                .event
                .evaluate(&variables)
                .ok()
                .and_then(|value| value.to_text().map(std::borrow::Cow::into_owned));
            if let Some(value) = value {
                let data = headwater_expr::Object::field(&view, "data").unwrap_or_default();
                works.push(Work::Reply(
                    cause(event),
                    awaits.event.source().to_owned(),
                    value,
                    Json::of(&data),
                ));
            }
        }
    }
    works
}

/// What an event asks for.
enum Work {
    Start(Started),
    Refuse(Cause, String),
    /// The expression that correlates, its value, and the event's data.
    Reply(Cause, String, String, Json),
}

impl Work {
    /// What it is about.
    const fn event(&self) -> &Cause {
        match self {
            Self::Start(started) => &started.event,
            Self::Refuse(event, _) | Self::Reply(event, ..) => event,
        }
    }

    /// What is done one after the other.
    fn group(&self) -> String {
        match self {
            Self::Start(started) => format!("instance {}", started.instance),
            Self::Refuse(event, _) => format!("event {}", event.id),
            Self::Reply(_, expression, value, _) => format!("reply {value} {expression}"),
        }
    }
}

fn view<'e>(event: &'e RecordedEvent, upcasts: &Upcasts) -> Result<EventView<'e>, String> {
    EventView::new(event, upcasts).map_err(|(place, message)| format!("{place}: {message}"))
}

fn distance(from: &Positions, to: &Positions) -> u64 {
    to.iter().map(|(partition, position)| position.get().saturating_sub(from.get(partition).get())).sum()
}
