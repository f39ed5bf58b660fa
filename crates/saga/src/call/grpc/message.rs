//! Messages between JSON and Protobuf.

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MethodDescriptor, SerializeOptions};

use crate::call::answers::{self, MAX_BODY};
use crate::json::Json;

/// The message that `method` takes, from its JSON form. Says which field does not fit.
pub(super) fn encode(method: &MethodDescriptor, json: &Json) -> Result<Bytes, String> {
    let mut text = serde_json::Deserializer::from_str(json.as_str());
    let mut place = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut text, &mut place);
    let kind = method.input();
    match DynamicMessage::deserialize_with_options(kind.clone(), tracked, &DeserializeOptions::new()) {
        Ok(message) => Ok(message.encode_to_vec().into()),
        Err(error) => {
            let place = place.path().to_string();
            Err(format!(
                "the request does not fit the message {}: {}{}",
                kind.full_name(),
                if place == "." { String::new() } else { format!("{place}: ") },
                answers::short(&error.to_string())
            ))
        }
    }
}

/// The JSON form of what `method` gave. Fields without presence are always there, so that expressions can read a zero.
pub(super) fn decode(method: &MethodDescriptor, bytes: Bytes) -> Result<Json, String> {
    let kind = method.output();
    let message = DynamicMessage::decode(kind.clone(), bytes)
        .map_err(|error| format!("its message is no {}: {error}", kind.full_name()))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut json = Vec::new();
    message
        .serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options)
        .map_err(|error| format!("its message has no JSON form: {error}"))?;
    if json.len() > MAX_BODY {
        return Err(format!("its message of more than {} KiB is not kept", MAX_BODY >> 10));
    }
    let text = String::from_utf8(json).map_err(|error| format!("its message has no JSON form: {error}"))?;
    answers::body(&text).ok_or_else(|| "its message is not kept".to_owned())
}
