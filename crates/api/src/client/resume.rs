use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use headwater_core::{Result, Token};
use tonic::Status;

use super::{Batch, Client, Read, Subscribe};
use headwater_log::StartFrom;

use crate::convert;
use crate::v1;

/// What is read again from the last token when its connection is lost.
pub(super) enum Source {
    Read(Read),
    Subscribe(Subscribe),
}

/// A batch as it came, before its events are converted.
struct Wire {
    events: Vec<v1::RecordedEvent>,
    token: String,
    caught_up: bool,
    head: String,
}

impl Source {
    async fn open(&self, client: &Client) -> Result<BoxStream<'static, Result<Wire, Status>>, Status> {
        let mut grpc = client.grpc.clone();
        Ok(match self {
            Self::Read(read) => {
                let request = v1::ReadRequest {
                    from: Some(convert::start_to_wire(&read.from)),
                    up_to: read.up_to.as_ref().map(ToString::to_string).unwrap_or_default(),
                    filter: Some(convert::filter_to_wire(&read.filter)),
                    partition: read.partition.map(|partition| u32::from(partition.get())),
                    limit: read.limit,
                    max_bytes: read.max_bytes,
                    upcast: read.upcast,
                };
                let batches = grpc.read(request).await?.into_inner();
                batches
                    .map(|batch| {
                        let v1::ReadResponse { events, token, head } = batch?;
                        Ok(Wire { events, token, caught_up: false, head })
                    })
                    .boxed()
            }
            Self::Subscribe(subscribe) => {
                let request = v1::SubscribeRequest {
                    from: Some(convert::start_to_wire(&subscribe.from)),
                    filter: Some(convert::filter_to_wire(&subscribe.filter)),
                    max_batch: subscribe.max_batch.unwrap_or(0),
                    upcast: subscribe.upcast,
                };
                let batches = grpc.subscribe(request).await?.into_inner();
                batches
                    .map(|batch| {
                        let v1::SubscribeResponse { events, token, caught_up } = batch?;
                        Ok(Wire { events, token, caught_up, head: String::new() })
                    })
                    .boxed()
            }
        })
    }

    /// Goes on after `batch`. False: nothing is left to read.
    fn advance(&mut self, batch: &Batch) -> bool {
        let from = StartFrom::After(batch.token.clone());
        match self {
            Self::Read(read) => {
                read.from = from;
                if let Some(limit) = &mut read.limit {
                    *limit = limit.saturating_sub(batch.events.len() as u64);
                }
                if let Some(max_bytes) = &mut read.max_bytes {
                    let size: usize = batch
                        .events
                        .iter()
                        .map(|event| event.data.len() + event.metadata.as_bytes().len())
                        .sum();
                    *max_bytes = max_bytes.saturating_sub(size as u64);
                }
                read.limit != Some(0) && read.max_bytes != Some(0)
            }
            Self::Subscribe(subscribe) => {
                subscribe.from = from;
                true
            }
        }
    }

    /// Whether the end of the server's stream is the end.
    const fn ends(&self) -> bool {
        matches!(self, Self::Read(_))
    }
}

struct State {
    client: Client,
    source: Source,
    open: Option<BoxStream<'static, Result<Wire, Status>>>,
    /// Of the try that is under way, from 1; back to 1 with everything that comes.
    attempt: u32,
    done: bool,
}

impl State {
    /// The next batch; `None`: that was the last.
    async fn next(&mut self) -> Result<Option<Batch>> {
        if self.done {
            return Ok(None);
        }
        loop {
            let status = match self.step().await {
                Ok(Some(wire)) => {
                    self.attempt = 1;
                    let batch = convert_batch(wire)?;
                    self.done = !self.source.advance(&batch);
                    return Ok(Some(batch));
                }
                Ok(None) if self.source.ends() => {
                    self.done = true;
                    return Ok(None);
                }
                Ok(None) => Status::unavailable("the server ended the subscription"),
                Err(status) => status,
            };
            self.open = None;
            self.client.pause(self.attempt, self.client.error(&status)).await?;
            self.attempt += 1;
        }
    }

    async fn step(&mut self) -> Result<Option<Wire>, Status> {
        let open = match &mut self.open {
            Some(open) => open,
            closed => closed.insert(self.source.open(&self.client).await?),
        };
        open.next().await.transpose()
    }
}

/// The batches of `source`.
pub(super) fn batches(client: Client, source: Source) -> impl Stream<Item = Result<Batch>> + Send {
    let state = State { client, source, open: None, attempt: 1, done: false };
    futures_util::stream::unfold(state, |mut state| async move {
        match state.next().await {
            Ok(batch) => Some((Ok(batch?), state)),
            Err(error) => {
                state.done = true;
                Some((Err(error), state))
            }
        }
    })
}

fn convert_batch(wire: Wire) -> Result<Batch> {
    let token = |text: &str| text.parse::<Token>().map_err(|error| convert::senseless(&error));
    Ok(Batch {
        events: wire.events.into_iter().map(convert::event_from_wire).collect::<Result<_>>()?,
        token: token(&wire.token)?,
        caught_up: wire.caught_up,
        head: (!wire.head.is_empty()).then(|| token(&wire.head)).transpose()?,
    })
}
