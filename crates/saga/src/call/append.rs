//! Appends an event, once however often it is sent.

use bytes::Bytes;
use headwater_core::{Append, Error, EventType, Expected, Metadata, NewEvent, StreamId};
use serde_json::json;
use uuid::{Uuid, uuid};

use super::{Answer, AppendRequest, Call, Response, Surroundings, Trace};
use crate::json::Json;

/// The namespace of the ids of events that sagas append. Another one would make repeats of old calls new events.
const EVENT_IDS: Uuid = uuid!("7c5a8a4e-2f0d-5b0e-9d3c-6a41f7f0b1c2");

pub(super) fn what(request: &AppendRequest) -> String {
    format!(
        "append of {} to {} in event stream \"{}\"",
        request.event_type, request.stream_id, request.stream
    )
}

pub(super) async fn send(surroundings: &dyn Surroundings, call: &Call, request: &AppendRequest) -> Answer {
    let Some(stream) = surroundings.stream(&request.stream) else {
        return Answer::unanswered(format!("{}: there is no such event stream now", what(request)));
    };
    let append = match append(call, request) {
        Ok(append) => append,
        Err(error) => return Answer::failure(format!("{}: {error}", what(request))),
    };
    match stream.append(append).await {
        Ok(appended) => {
            let value = json!({
                "status": "OK",
                "version": appended.version.get(),
                "partition": appended.partition.get(),
                "position": appended.position.get().to_string(),
            });
            Answer::Success(Response {
                summary: format!("version {} of {}", appended.version, request.stream_id),
                value: Json::of_value(&value),
            })
        }
        Err(error) => {
            let reason = format!("{}: {error}", what(request));
            match error {
                Error::Invalid { .. }
                | Error::NotFound { .. }
                | Error::WrongVersion { .. }
                | Error::AlreadyExists { .. }
                | Error::FailedPrecondition { .. } => Answer::failure(reason),
                // Who may append is for people to mend, and is no answer to what was asked.
                Error::Unauthenticated { .. }
                | Error::PermissionDenied { .. }
                | Error::Exhausted { .. }
                | Error::DeadlineExceeded { .. }
                | Error::Unavailable { .. }
                | Error::Cancelled
                | Error::Corrupt { .. }
                | Error::Internal { .. } => Answer::unanswered(reason),
            }
        }
    }
}

fn append(call: &Call, request: &AppendRequest) -> headwater_core::Result<Append> {
    let data = Bytes::copy_from_slice(request.data.as_str().as_bytes());
    let event = NewEvent {
        id: Uuid::new_v5(&EVENT_IDS, call.key.as_bytes()),
        metadata: metadata(&call.key, &call.trace)?,
        ..NewEvent::json(EventType::new(&request.event_type)?, data)
    };
    Ok(Append { stream_id: StreamId::new(&request.stream_id)?, expected: Expected::Any, events: vec![event] })
}

fn metadata(key: &str, trace: &Trace) -> headwater_core::Result<Metadata> {
    let mut metadata = json!({
        "correlation_id": trace.correlation_id,
        "causation_id": trace.causation_id,
        "idempotency_key": key,
    });
    if let Some(traceparent) = &trace.traceparent {
        metadata["traceparent"] = traceparent.as_str().into();
    }
    Metadata::new(Bytes::from(metadata.to_string()))
}
