//! The tasks of a saga that runs: each goes on until the saga is stopped.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use headwater_core::{Error, EventType, Positions, RecordedEvent, Result};
use headwater_log::{Backoff, Filter, LogReader, ReadAll, Subscription, read_all, say_failure};
use jiff::Timestamp;
use serde::Deserialize;

use super::{FOLLOWED, FOLLOWED_BYTES, SagaService};
use crate::drive::{Rest, Workshop, until};
use crate::history::{COMMANDED, COMPENSATED, COMPLETED, REPLY_SEEN, STARTED};
use crate::intake::Intake;
use crate::journal;
use crate::table::Ended;

/// A log that has lost events, to an older backup say, would have those that come in their place skipped.
pub(super) fn check_not_beyond(taken_in: &Positions, end: &Positions) -> Result<()> {
    for (partition, position) in taken_in.iter() {
        let last = end.get(partition);
        if position > last {
            return Err(Error::failed_precondition(format!(
                "the saga has taken in events up to position {position} of partition {partition}, and the event log ends at {last}: it was restored \
                 from an older backup; restore the saga's log of the same time as well, or give it a new one: events would be skipped"
            )));
        }
    }
    Ok(())
}

/// Wakes every instance that has not ended, and counts the others; gives the names of the former, and up to where the log says so.
pub(super) async fn take_up(
    workshop: &Workshop,
    log: &dyn LogReader,
) -> Result<(HashSet<String>, Positions)> {
    let event_types =
        [STARTED, COMPLETED, COMPENSATED].map(EventType::new).into_iter().collect::<Result<_>>()?;
    let filter = Filter { event_types, stream_id_prefix: Some(journal::instances().to_owned()) };
    let mut open: HashMap<String, Origin> = HashMap::new();
    let mut ended = Ended::default();
    let mut after = Positions::default();
    loop {
        let request = ReadAll { after, filter: filter.clone(), limit: FOLLOWED, max_bytes: FOLLOWED_BYTES };
        let page = read_all(log, request).await?;
        for event in page.events {
            let Some(name) = journal::instance_of(event.stream_id.as_str()) else { continue };
            if event.event_type.as_str() == STARTED {
                open.insert(name.to_owned(), Origin::of(&event));
            } else {
                open.remove(name);
                ended.count(event.event_type.as_str());
            }
        }
        after = page.next;
        if page.caught_up {
            break;
        }
    }
    workshop.table.have_ended(ended);
    // The oldest first, whom others have waited for the longest.
    let mut oldest: Vec<(&String, &Origin)> = open.iter().collect();
    oldest.sort_unstable_by_key(|(_, origin)| origin.started_at);
    for (name, origin) in oldest {
        workshop.table.wake(name);
        workshop.table.is_of(name, &origin.definition, origin.started_at);
    }
    Ok((open.into_keys().collect(), after))
}

/// Where an instance comes from.
struct Origin {
    definition: String,
    started_at: Timestamp,
}

impl Origin {
    /// The instance that this event has started. What cannot be read shows when it is worked on.
    fn of(event: &RecordedEvent) -> Self {
        #[derive(Default, Deserialize)]
        struct Follows {
            definition: String,
        }
        let Follows { definition } = serde_json::from_slice(&event.data).unwrap_or_default();
        Self { definition, started_at: event.recorded_at }
    }
}

impl Ended {
    /// An event of an instance, of this type.
    fn count(&mut self, event_type: &str) {
        match event_type {
            COMPLETED => self.completed += 1,
            COMPENSATED => self.compensated += 1,
            _ => {}
        }
    }
}

/// Tells the table of what others have written to the saga's log: another coordinator, or a command.
pub(super) async fn follow(service: SagaService, mut subscription: Subscription) {
    let workshop = &service.0.workshop;
    let mut backoff = backoff();
    loop {
        match subscription.next_batch(FOLLOWED, FOLLOWED_BYTES).await {
            Ok(batch) => {
                if backoff.reset() {
                    tracing::info!(saga = service.name(), "the saga's log is followed again");
                }
                let mut ended = Ended::default();
                for event in &batch.events {
                    let stream_id = event.stream_id.as_str();
                    if journal::is_definitions(stream_id) {
                        if let Err(error) = workshop.read_definitions().await {
                            tracing::warn!(saga = service.name(), %error, "a definition cannot be read");
                        }
                        // Who replies to its steps is to be looked for as well.
                        service.0.starting.send_modify(|_| {});
                    } else if let Some(name) = journal::instance_of(stream_id) {
                        ended.count(event.event_type.as_str());
                        match event.event_type.as_str() {
                            COMPLETED | COMPENSATED => workshop.table.ended_elsewhere(name),
                            STARTED => {
                                let origin = Origin::of(event);
                                workshop.table.wake(name);
                                workshop.table.is_of(name, &origin.definition, origin.started_at);
                            }
                            REPLY_SEEN | COMMANDED => workshop.table.wake(name),
                            _ if service.looks_on() => workshop.table.wake(name),
                            // Its own.
                            _ => {}
                        }
                    }
                }
                workshop.table.have_ended(ended);
            }
            Err(Error::Cancelled) => return,
            Err(error) => {
                say_failure!(backoff.is_unused(), saga = service.name(), %error, "the saga's log cannot be followed, and is tried again");
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

/// Wakes those whose time has come.
pub(super) async fn keep_time(workshop: Arc<Workshop>) {
    loop {
        let now = workshop.clock.now();
        let changed = workshop.table.timed.notified();
        match workshop.table.wake_until(now) {
            None => changed.await,
            Some(next) => {
                tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep(until(now, next)) => {}
                }
            }
        }
    }
}

/// Has each instance in the queue worked on, as many at a time as is wanted.
pub(super) async fn dispatch(service: SagaService) {
    let workshop = &service.0.workshop;
    let mut working = service.0.working.subscribe();
    loop {
        // An error means that the saga is gone.
        if working.wait_for(|working| *working).await.is_err() {
            return;
        }
        let permits = Arc::clone(&service.0.permits.lock().unwrap_or_else(PoisonError::into_inner));
        let Ok(permit) = permits.acquire_owned().await else { return };
        let (name, news) = loop {
            let queued = workshop.table.queued.notified();
            match workshop.table.next() {
                Some(next) => break next,
                None => queued.await,
            }
        };
        let (workshop, stop) = (Arc::clone(workshop), service.0.stop.clone());
        service.0.tasks.spawn(async move {
            let _permit = permit;
            let mut backoff = backoff();
            loop {
                let Some(rest) = stop.run_until_cancelled(workshop.drive(&name, &news)).await else { return };
                match rest {
                    Ok(Rest::Ended(_)) => return workshop.table.remove(&name),
                    Ok(Rest::Waits(state, wake)) => return workshop.table.rest(&name, state, wake),
                    Ok(Rest::Stopped(state)) => {
                        workshop.table.rest(&name, state, None);
                        return workshop.table.wake(&name);
                    }
                    Err(Error::Cancelled) => return,
                    Err(error) if error.is_retryable() => {
                        say_failure!(backoff.is_unused(), saga = workshop.names.saga, instance = %name, %error, "is worked on again");
                        stop.run_until_cancelled(tokio::time::sleep(backoff.pause())).await;
                    }
                    Err(error) => {
                        tracing::error!(saga = workshop.names.saga, instance = %name, %error, "an instance cannot go on");
                        return workshop.table.stick(&name, &error.to_string());
                    }
                }
            }
        });
    }
}

/// Finds out what each instance in the queue is doing, and does nothing about it.
pub(super) async fn observe(service: SagaService) {
    let workshop = &service.0.workshop;
    let mut backoff = backoff();
    loop {
        let queued = workshop.table.queued.notified();
        let Some((name, _)) = workshop.table.next() else {
            queued.await;
            continue;
        };
        loop {
            match workshop.load(&name).await {
                Ok(Some((_, instance))) if instance.ended.is_none() => {
                    workshop.table.rest(&name, instance.state(), None);
                }
                Ok(_) => workshop.table.remove(&name),
                Err(error) if error.is_retryable() => {
                    say_failure!(backoff.is_unused(), saga = service.name(), instance = %name, %error, "cannot be looked at, and is tried again");
                    tokio::time::sleep(backoff.pause()).await;
                    continue;
                }
                Err(error) => workshop.table.stick(&name, &error.to_string()),
            }
            backoff.reset();
            break;
        }
    }
}

/// Takes events in, and goes on after what passes.
pub(super) async fn take_in(service: SagaService, mut intake: Intake, mut positions: Positions) {
    let mut reached = service.0.reached.subscribe();
    let mut backoff = backoff();
    loop {
        let result = {
            let mut running = std::pin::pin!(intake.run(&mut positions));
            loop {
                tokio::select! {
                    biased;
                    result = &mut running => break result,
                    // It goes on: what was wrong has passed.
                    Ok(()) = reached.changed() => {
                        if backoff.reset() {
                            tracing::info!(saga = service.name(), "the event stream is taken in again");
                        }
                        service.say(None);
                    }
                }
            }
        };
        match result {
            Ok(()) | Err(Error::Cancelled) => return,
            Err(error) => {
                say_failure!(backoff.is_unused(), saga = service.name(), %error, "the event stream cannot be taken in, and is tried again");
                service.say(Some(error.to_string()));
                // How far it came before is no sign that it goes on now.
                reached.mark_unchanged();
                tokio::time::sleep(backoff.pause()).await;
            }
        }
    }
}

fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(50), Duration::from_secs(5))
}
