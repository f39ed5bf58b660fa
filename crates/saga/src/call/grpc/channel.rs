//! A server that is called, and whether it was the server who said what came back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Uri};
use http_body_util::BodyExt;
use hyper_util::client::legacy;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Response, Status};
use tower::Service;

use crate::call::connections::Client;
use crate::call::{Answer, answers};

/// Bytes of one message that a server sends: what is larger is no answer. A descriptor of many types may be as large.
const MAX_MESSAGE: usize = 4 << 20;

/// A server.
pub(super) struct Channel {
    pub(super) client: Client,
    pub(super) origin: Uri,
    /// Where it is, when that is not what the origin says.
    pub(super) address: Option<Authority>,
}

impl Channel {
    /// Sends one message and takes one.
    ///
    /// `Err` when the server said nothing of its own: statuses that are made here, of faults of the connection or of answers that
    /// are no gRPC, have codes too, and some of those would read as a refusal.
    pub(super) async fn unary(
        &self,
        request: Request<Bytes>,
        path: PathAndQuery,
    ) -> Result<Result<Response<Bytes>, Status>, Answer> {
        let witness = Witness::default();
        let mut grpc = self.grpc(&witness);
        // A client of the pool is always ready.
        match grpc.unary(request, path, Raw).await {
            Err(status) if !witness.spoke() => Err(self.silent(&status)),
            Ok(_) if !witness.spoke() => {
                Err(Answer::unanswered("the answer broke off before it said how the call went"))
            }
            answer => Ok(answer),
        }
    }

    pub(super) fn grpc(&self, witness: &Witness) -> Grpc<Watched> {
        let watched = Watched { client: self.client.clone(), witness: witness.clone() };
        Grpc::with_origin(watched, self.origin.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// What a status says that no server sent.
    pub(super) fn silent(&self, status: &Status) -> Answer {
        let fault = match std::error::Error::source(status) {
            Some(source) => answers::causes(source),
            None => answers::short(status.message()),
        };
        let fault = match &self.address {
            Some(address) => format!("at {address}: {fault}"),
            None => fault,
        };
        let source = std::error::Error::source(status);
        match source.and_then(|it| it.downcast_ref::<legacy::Error>()).filter(|it| it.is_connect()) {
            Some(error) => answers::broken(error, fault),
            None => Answer::unanswered(fault),
        }
    }
}

/// Whether a status has come from the server.
#[derive(Clone, Default)]
pub(super) struct Witness(Arc<AtomicBool>);

impl Witness {
    pub(super) fn spoke(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn see(&self, headers: &HeaderMap) {
        if headers.contains_key(Status::GRPC_STATUS) {
            self.0.store(true, Ordering::Release);
        }
    }
}

/// A client that looks for the status in what comes.
pub(super) struct Watched {
    client: Client,
    witness: Witness,
}

impl Service<http::Request<Body>> for Watched {
    type Response = http::Response<Body>;
    type Error = legacy::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, legacy::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), legacy::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let witness = self.witness.clone();
        let answer = self.client.request(request);
        Box::pin(async move {
            let answer = answer.await?;
            witness.see(answer.headers());
            Ok(answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    if let Some(trailers) = frame.trailers_ref() {
                        witness.see(trailers);
                    }
                    frame
                }))
            }))
        })
    }
}

/// Messages as their bytes: what they mean is known only once their method is.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
