//! What a process is to run: one of the resources in the manifests, and the event store that it follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use headwater_api::{Client, RemoteLog};
use headwater_bus::{FeedOptions, LiveReader};
use headwater_core::{Error, Result};
use headwater_log::{Backoff, LogReader, say_failure};
use headwater_resources::EventStreamSpec;
use headwater_resources::manifest::specs;
use headwater_resources::shared::SecretKeyRef;
use headwater_runtime::{Gate, Readiness};
use tokio::sync::watch;

use crate::bus::{Brought, BusPlace};
use crate::load::Loaded;

/// The resource of `kind` that is meant: the one called `wanted`, or the only one. `flag` says which, without its dashes.
///
/// # Errors
/// `Invalid` for the flag, with what there is.
pub(crate) fn choose<S>(
    kind: &str,
    flag: &str,
    mut resources: BTreeMap<String, S>,
    wanted: Option<String>,
) -> Result<(String, S)> {
    let names = resources.keys().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let refused = |message: String| Err(Error::invalid(flag, message));
    match wanted {
        Some(name) => match resources.remove(&name) {
            Some(spec) => Ok((name, spec)),
            None if names.is_empty() => {
                refused(format!("the manifests declare no {kind} \"{name}\", and no other either"))
            }
            None => refused(format!("the manifests declare no {kind} \"{name}\"; they declare {names}")),
        },
        None if resources.len() > 1 => {
            refused(format!("the manifests declare {names}: say which one, with --{flag}"))
        }
        None => match resources.pop_first() {
            Some(only) => Ok(only),
            None => refused(format!("the manifests declare no {kind}: add the manifest of one")),
        },
    }
}

/// The event stream `name`, which `who` follows.
///
/// # Errors
/// `NotFound` when the manifests declare none.
pub(crate) fn stream(loaded: &Loaded, name: &str, who: &str) -> Result<EventStreamSpec> {
    specs(&loaded.manifests.event_streams).remove(name).ok_or_else(|| {
        Error::not_found(format!(
            "the manifests declare no EventStream \"{name}\", which {who} follows: add its manifest"
        ))
    })
}

/// The log of the event stream `name` at the event store of `client`.
///
/// # Errors
/// `Unavailable` when it does not answer; `FailedPrecondition` when it is not the one that `spec` declares.
pub(crate) async fn follow(client: Client, name: &str, spec: &EventStreamSpec) -> Result<Arc<RemoteLog>> {
    let log = Arc::new(RemoteLog::connect(client).await?);
    let partitions = log.descriptor().partitions.get();
    if partitions != spec.partitions as usize {
        return Err(Error::failed_precondition(format!(
            "the event store at {} has {partitions} partitions, and the manifest of EventStream \"{name}\" says {}: give the address of its own event store with --event-store",
            log.client().address(),
            spec.partitions
        )));
    }
    Ok(log)
}

/// The log, by way of its bus if it has one.
///
/// # Errors
/// As [`BusPlace::open`].
pub(crate) fn live(
    log: Arc<RemoteLog>,
    bus: Option<&BusPlace>,
    namespace: &str,
    name: &str,
    brought: &Brought,
) -> Result<Arc<dyn LogReader>> {
    let Some(bus) = bus else { return Ok(log) };
    tracing::info!(event_stream = name, bus = bus.describe(), "what comes is brought by the bus");
    let bus = bus.open(namespace, name, log.descriptor())?;
    let live = Arc::new(LiveReader::new(log, bus, FeedOptions::default()));
    brought.by(Arc::clone(&live));
    Ok(live)
}

/// What `begin` gives, tried again while that may help: the first failure goes into the log, with `what` begins, and the last stands in
/// `readiness`.
///
/// # Errors
/// What does not pass.
pub(crate) async fn until_it_begins<T>(
    what: &str,
    readiness: &Readiness,
    begin: impl AsyncFn() -> Result<T>,
) -> Result<T> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut reason = Reason::default();
    loop {
        let begun = begin().await;
        reason.becomes(None);
        match begun {
            Err(error) if error.is_retryable() => {
                say_failure!(backoff.is_unused(), name = what, %error, "cannot begin yet, and tries again");
                reason.becomes(Some(readiness.wait_for(format!("the next try: {error}"))));
                tokio::time::sleep(backoff.pause()).await;
            }
            result => return result,
        }
    }
}

/// Why a process is not ready, at most one thing at a time. Dropped, it is a reason no more.
#[derive(Default)]
struct Reason(Option<Gate>);

impl Reason {
    fn becomes(&mut self, next: Option<Gate>) {
        // Not before the next one is closed; and never where it is the same.
        if let Some(before) = std::mem::replace(&mut self.0, next)
            && !self.0.as_ref().is_some_and(|next| next.is_of(&before))
        {
            before.open();
        }
    }
}

impl Drop for Reason {
    fn drop(&mut self) {
        self.becomes(None);
    }
}

/// Not ready for as long as `silence` says why. Never ends.
pub(crate) async fn ready_while_it_answers(
    readiness: &Readiness,
    mut silence: watch::Receiver<Option<String>>,
) {
    let mut reason = Reason::default();
    loop {
        let why = silence.borrow_and_update().clone();
        reason.becomes(why.map(|why| readiness.wait_for(format!("the read model: {why}"))));
        if silence.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The URL in the Secret `key`, which stands at `field`.
///
/// # Errors
/// `Invalid` when there is no such Secret, or it holds no text.
pub(crate) fn url_in(key: &SecretKeyRef, field: &str, loaded: &Loaded) -> Result<String> {
    Ok(text_in(key, field, loaded, "--database URL")?.trim().to_owned())
}

/// The text in the Secret `key`, which stands at `field`; `flag` would do as well.
///
/// # Errors
/// `Invalid` when there is no such Secret, or it holds no text.
pub(crate) fn text_in(key: &SecretKeyRef, field: &str, loaded: &Loaded, flag: &str) -> Result<String> {
    let value = loaded.manifests.secrets.get(&key.name, &key.key);
    let value = value.map_err(|missing| Error::invalid(field, format!("{missing}; or give {flag}")))?;
    let text = std::str::from_utf8(value).map_err(|_| {
        Error::invalid(field, format!("key \"{}\" of Secret \"{}\" is no UTF-8", key.key, key.name))
    })?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused<T>(result: Result<T>, part: &str) {
        match result {
            Err(Error::Invalid { field, message }) => {
                assert_eq!(field, "saga");
                assert!(message.contains(part), "{message}");
            }
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("{part} was not refused"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_trying_leaves_nothing_to_wait_for() {
        let readiness = Readiness::default();
        let begin = async || Err::<(), _>(Error::unavailable("it is away"));
        let trying = until_it_begins("orders", &readiness, begin);
        tokio::time::timeout(Duration::from_mins(1), trying).await.unwrap_err();
        assert_eq!(readiness.waiting_for(), Vec::<String>::new());
        let mut tries = [Err(Error::unavailable("it is away")), Ok(7)].into_iter();
        let tries = std::sync::Mutex::new(&mut tries);
        let begin = async || tries.lock().unwrap().next().unwrap();
        assert_eq!(until_it_begins("orders", &readiness, begin).await.unwrap(), 7);
        assert_eq!(readiness.waiting_for(), Vec::<String>::new());
    }

    #[test]
    fn what_is_meant_is_the_only_one_or_the_one_that_is_named() {
        let choose = |names: &[&str], wanted: Option<&str>| {
            let all = names.iter().map(|name| ((*name).to_owned(), ())).collect();
            choose("Saga", "saga", all, wanted.map(str::to_owned))
        };
        assert_eq!(choose(&["a"], None).unwrap().0, "a");
        assert_eq!(choose(&["a", "b"], Some("b")).unwrap().0, "b");
        refused(choose(&["a", "b"], None), "\"a\", \"b\": say which one, with --saga");
        refused(choose(&["a"], Some("c")), "no Saga \"c\"; they declare \"a\"");
        refused(choose(&[], Some("c")), "and no other either");
        refused(choose(&[], None), "declare no Saga");
    }
}
