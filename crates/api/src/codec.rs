//! Protobuf on the wire, as `tonic_prost` has it, but for one thing: a request that does not decode is the caller's fault,
//! and says which field is at fault.

use std::marker::PhantomData;

use headwater_core::Error;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};
use tonic_prost::ProstEncoder;

use crate::errors::to_status;

/// The codec of all our services and clients.
pub(crate) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = MessageDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MessageDecoder(PhantomData)
    }
}

/// Decodes one kind of message.
pub(crate) struct MessageDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for MessageDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        U::decode(buffer).map(Some).map_err(|error| to_status(&undecodable(U::NAME, &error)))
    }
}

/// Only servers decode messages named `…Request`.
fn undecodable(message: &str, error: &prost::DecodeError) -> Error {
    let text = error.to_string();
    let why = text.strip_prefix("failed to decode Protobuf message: ").unwrap_or(&text);
    if !message.ends_with("Request") {
        return Error::internal(format!(
            "the server's answer is no {message} ({why}); is it a Headwater event store?"
        ));
    }
    // `Inner.field: Outer.field: what is wrong`, where a field is known.
    let (path, fault) = why.rsplit_once("invalid string value: ").unwrap_or(("", why));
    let mut fields: Vec<&str> = path
        .split(": ")
        .filter_map(|step| Some(step.split_once('.')?.1))
        .map(|field| field.strip_prefix("r#").unwrap_or(field))
        .collect();
    if fields.is_empty() {
        return Error::invalid(
            "request",
            format!("it is no {message}: {fault}; build it from the published .proto"),
        );
    }
    fields.reverse();
    Error::invalid(fields.join("."), format!("{fault}; send text as UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn a_request_that_does_not_decode_names_the_field() {
        #[track_caller]
        fn check(bytes: &[u8], expected: &str) {
            let error = v1::AppendRequest::decode(bytes).unwrap_err();
            let error = undecodable(v1::AppendRequest::NAME, &error).to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        check(b"\x0a\x02\xff\xfe", "stream_id: data is not UTF-8 encoded; send");
        check(b"\x1a\x03\x12\x01\xff", "events.type: data is not UTF-8 encoded; send");
        check(b"\x0a\x20a", "request: it is no AppendRequest: ");
    }

    #[test]
    fn an_answer_that_does_not_decode_is_not_the_callers_fault() {
        let error = v1::AppendResponse::decode(&b"\x22\x01\xff"[..]).unwrap_err();
        let error = undecodable(v1::AppendResponse::NAME, &error);
        assert!(matches!(error, Error::Internal { .. }), "{error}");
    }
}
