//! The JetStream stream: made and kept as it is described, or only looked at.

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{
    CreateStreamErrorKind, DeleteStreamErrorKind, GetStreamErrorKind, UpdateStreamError,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream};
use headwater_core::{Error, Result};

use crate::subject::Subjects;
use crate::{Made, NatsOptions, Provision};

/// The first version with atomic batches.
const ATOMIC_SINCE: (i64, i64, i64) = (2, 12, 0);

/// The first version that keeps metadata of streams.
const METADATA_SINCE: (i64, i64, i64) = (2, 10, 0);

/// In a stream's metadata: the source of the events that it was made for.
const OWNER: &str = "headwater.dev/source";

/// How the description begins of a stream that was made here.
const DESCRIPTION: &str = "Headwater: the events of ";

/// Sees to it that the stream is there and fits.
///
/// # Errors
/// `Unavailable` when JetStream does not answer; `FailedPrecondition` when the stream is not as it must be, and how to go on.
pub(crate) async fn provide(
    context: &Context,
    options: &NatsOptions,
    subjects: &Subjects,
    whose: &str,
) -> Result<Stream> {
    let found = find(context, options).await?;
    let Provision::Create(made) = &options.provision else {
        let Some(stream) = found else { return Err(missing(options)) };
        check(options, stream.cached_info())?;
        return Ok(stream);
    };
    let (major, minor, patch) = ATOMIC_SINCE;
    let is_atomic = context.client().is_server_compatible(major, minor, patch);
    let (major, minor, patch) = METADATA_SINCE;
    let mark = context.client().is_server_compatible(major, minor, patch).then_some(whose);
    let captured = subjects.of_stream(&options.event_types)?;
    let wanted = match &found {
        None => Config {
            name: options.stream_name.clone(),
            description: Some(description(&options.event_stream)),
            discard: DiscardPolicy::Old,
            storage: if made.in_memory { StorageType::Memory } else { StorageType::File },
            ..described(Config::default(), made, captured, is_atomic, mark)
        },
        Some(stream) => {
            check(options, stream.cached_info())?;
            let is = &stream.cached_info().config;
            check_owner(options, is, &captured, whose)?;
            if (is.storage == StorageType::Memory) != made.in_memory {
                return Err(refused(
                    options,
                    &format!("is kept in {}", if made.in_memory { "files" } else { "memory" }),
                    "a stream's storage cannot be changed: say it as it is in bus.nats.storage, or delete the stream",
                ));
            }
            let wanted = described(is.clone(), made, captured, is_atomic, mark);
            if wanted == *is {
                return found.ok_or_else(|| missing(options));
            }
            wanted
        }
    };
    let done = match &found {
        None => context.create_stream(&wanted).await.map(drop).map_err(|error| not_made(options, error)),
        Some(_) => context.update_stream(&wanted).await.map(drop).map_err(|error| not_made(options, error)),
    };
    done?;
    tracing::info!(
        stream = options.stream_name,
        what = if found.is_none() { "made" } else { "changed to what is declared" },
        "JetStream stream"
    );
    find(context, options).await?.ok_or_else(|| missing(options))
}

/// The stream, if it is there.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn find(context: &Context, options: &NatsOptions) -> Result<Option<Stream>> {
    match context.get_stream(&options.stream_name).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(reason) if reason.code() == 404 => Ok(None),
            _ => Err(Error::unavailable(format!(
                "looking for JetStream stream \"{}\": {error}{}",
                options.stream_name,
                source(&error)
            ))),
        },
    }
}

/// Whether a stream is marked as made for the events of `whose`.
pub(crate) fn is_made_for(is: &Config, whose: &str) -> bool {
    is.metadata.get(OWNER).is_some_and(|owner| owner == whose)
}

/// Deletes the stream. Whether it was there.
///
/// # Errors
/// `Unavailable`.
pub(crate) async fn remove(context: &Context, options: &NatsOptions) -> Result<bool> {
    match context.delete_stream(&options.stream_name).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), DeleteStreamErrorKind::JetStream(reason) if reason.code() == 404) => {
            Ok(false)
        }
        Err(error) => Err(Error::unavailable(format!(
            "deleting JetStream stream \"{}\": {error}{}",
            options.stream_name,
            source(&error)
        ))),
    }
}

/// # Errors
/// Who waits for the stream can go on once it is there.
fn missing(options: &NatsOptions) -> Error {
    Error::unavailable(format!(
        "there is no JetStream stream \"{}\": make it, or say bus.provision: Create",
        options.stream_name
    ))
}

fn description(event_stream: &str) -> String {
    format!("{DESCRIPTION}{event_stream}")
}

/// Whether the stream is one that was made for this event stream, or nobody's.
///
/// # Errors
/// `FailedPrecondition`: nothing of another's is changed.
fn check_owner(options: &NatsOptions, is: &Config, captured: &[String], whose: &str) -> Result<()> {
    if let Some(owner) = is.metadata.get(OWNER) {
        return if owner == whose { Ok(()) } else { Err(shared(options, owner, whose)) };
    }
    // Streams that were made before they were marked are told by their description.
    if let Some(described) = is.description.as_ref().filter(|text| text.starts_with(DESCRIPTION)) {
        let owner = &described[DESCRIPTION.len()..];
        return if owner == options.event_stream { Ok(()) } else { Err(shared(options, owner, whose)) };
    }
    let strange: Vec<&str> =
        is.subjects.iter().filter(|subject| !captured.contains(subject)).map(String::as_str).collect();
    if strange.is_empty() {
        return Ok(());
    }
    Err(refused(
        options,
        &format!(
            "was not made for this event stream, and captures {}, which it would lose (it would get {})",
            strange.join(", "),
            captured.join(", ")
        ),
        "name another stream in bus.nats.streamName; or say bus.provision: Observe, and see that it captures the event stream's subjects",
    ))
}

/// Two event streams in one stream.
pub(crate) fn shared(options: &NatsOptions, owner: &str, whose: &str) -> Error {
    refused(
        options,
        &format!("carries the events of {owner}, and not of {whose}"),
        "give each event stream a stream of its own in bus.nats.streamName, or delete this one if it is of no more use",
    )
}

fn described(
    base: Config,
    made: &Made,
    subjects: Vec<String>,
    is_atomic: bool,
    mark: Option<&str>,
) -> Config {
    let mut config = base;
    if let Some(mark) = mark {
        config.metadata.insert(OWNER.to_owned(), mark.to_owned());
    }
    config.subjects = subjects;
    config.num_replicas = made.replicas as usize;
    config.allow_atomic_publish |= is_atomic;
    // Any server of a cluster may answer those who look at a message.
    config.allow_direct = true;
    if let Some(age) = made.max_age {
        config.max_age = age;
        // The window in which repeats are found cannot be longer.
        config.duplicate_window = config.duplicate_window.min(age);
    }
    if let Some(bytes) = made.max_bytes {
        config.max_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    } else if config.max_bytes == 0 {
        config.max_bytes = -1;
    }
    config
}

/// Whether the bus can do with the stream as it is.
fn check(options: &NatsOptions, info: &Info) -> Result<()> {
    let config = &info.config;
    if config.sealed || config.mirror.is_some() || config.no_ack {
        return Err(refused(
            options,
            "is sealed, a mirror, or acknowledges nothing",
            "name another stream in bus.nats.streamName",
        ));
    }
    if config.retention != RetentionPolicy::Limits {
        return Err(refused(
            options,
            "forgets messages once somebody has acknowledged them",
            "make it with retention \"limits\", so that every subscriber gets every event",
        ));
    }
    if config.max_messages_per_subject > 0 {
        return Err(refused(
            options,
            &format!("keeps only {} messages of a subject", config.max_messages_per_subject),
            "take away its max_msgs_per_subject, so that no event is dropped for a newer one",
        ));
    }
    Ok(())
}

fn refused(options: &NatsOptions, what: &str, remedy: &str) -> Error {
    Error::failed_precondition(format!("JetStream stream \"{}\" {what}: {remedy}", options.stream_name))
}

fn not_made(options: &NatsOptions, error: UpdateStreamError) -> Error {
    let what = format!("making JetStream stream \"{}\" as it is declared: {error}", options.stream_name);
    match error.kind() {
        CreateStreamErrorKind::JetStream(reason) if reason.code() < 500 => {
            Error::failed_precondition(format!("{what}; correct spec.bus, or the stream"))
        }
        CreateStreamErrorKind::JetStream(reason) if reason.to_string().contains("replicas") => {
            Error::failed_precondition(format!("{what}; bus.nats.replicas is what the servers can give"))
        }
        _ => Error::unavailable(format!("{what}{}", source(&error))),
    }
}

/// What is behind an error, where its own words do not say.
pub(crate) fn source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(String::new, |source| format!(": {source}"))
}
