use std::pin::pin;

use async_trait::async_trait;
use futures_util::StreamExt;
use headwater_core::{
    Append, Appended, Error, Partition, PartitionCount, Position, Positions, Result, Token,
};
use headwater_log::{
    Epoch, Head, LogDescriptor, LogReader, LogWriter, PartitionPage, ReadPartition, ReadStream, StartFrom,
    StreamPage,
};
use jiff::Timestamp;

use super::{Client, HeadAt, LogHead, Read};

/// The log of an event store elsewhere, to read and to append to.
#[derive(Debug, Clone)]
pub struct RemoteLog {
    client: Client,
    descriptor: LogDescriptor,
}

impl RemoteLog {
    /// Asks the event store which log it has.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer.
    pub async fn connect(client: Client) -> Result<Self> {
        let head = client.get_head(HeadAt::Now).await?;
        let descriptor = LogDescriptor {
            log_id: head.log_id,
            partitions: PartitionCount::new(head.partitions.len() as u32)?,
        };
        Ok(Self { client, descriptor })
    }

    /// The client underneath.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    fn token(&self, partition: Partition, position: Position) -> Token {
        Token::new(self.descriptor.log_id, Positions::one(partition, position))
    }

    /// The heads, of this log.
    async fn head(&self, at: HeadAt) -> Result<LogHead> {
        let head = self.client.get_head(at).await?;
        if head.log_id == self.descriptor.log_id {
            return Ok(head);
        }
        Err(Error::failed_precondition(format!(
            "the event store at {} has the log {} now, and had {} before: give the address of the one that was followed, or start again with new data",
            self.client.address(),
            head.log_id,
            self.descriptor.log_id
        )))
    }

    fn no_answer(&self) -> Error {
        Error::internal(format!("the event store at {} ended a read without a batch", self.client.address()))
    }
}

#[async_trait]
impl LogReader for RemoteLog {
    fn descriptor(&self) -> LogDescriptor {
        self.descriptor
    }

    async fn read_stream(&self, request: ReadStream) -> Result<StreamPage> {
        let page = self
            .client
            .read_stream(&super::ReadStream {
                stream_id: request.stream_id,
                from: request.from,
                direction: request.direction,
                limit: Some(request.limit as u64),
                max_bytes: Some(request.max_bytes as u64),
                upcast: false,
            })
            .await?;
        Ok(StreamPage { events: page.events, version: page.version })
    }

    async fn read_partition(&self, request: ReadPartition) -> Result<PartitionPage> {
        let partition = request.partition;
        // Position 0 cannot be said in a token, but that nothing is up to there can be.
        let limit = if request.up_to == Some(Position::ZERO) { 0 } else { request.limit };
        let read = Read {
            from: StartFrom::After(self.token(partition, request.after)),
            up_to: request.up_to.map(|position| self.token(partition, position)),
            filter: request.filter,
            partition: Some(partition),
            limit: Some(limit as u64),
            max_bytes: Some(request.max_bytes as u64),
            upcast: false,
        };
        let mut batches = pin!(self.client.read(read));
        let mut page: Option<PartitionPage> = None;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            let reached = batch.token.positions.get(partition);
            let head = batch.head.ok_or_else(|| self.no_answer())?.positions.get(partition);
            let page = page.get_or_insert_with(|| PartitionPage { events: Vec::new(), reached, head });
            page.events.extend(batch.events);
            (page.reached, page.head) = (reached, head);
        }
        page.ok_or_else(|| self.no_answer())
    }

    async fn heads(&self) -> Result<Vec<Head>> {
        let head = self.head(HeadAt::Now).await?;
        Ok(head
            .partitions
            .into_iter()
            .map(|head| Head {
                position: head.position,
                epoch: Epoch(head.epoch),
                last_recorded_at: head.recorded_at,
            })
            .collect())
    }

    async fn position_before(&self, partition: Partition, time: Timestamp) -> Result<Position> {
        self.descriptor.partitions.check(u32::from(partition.get()))?;
        Ok(self.head(HeadAt::Before(time)).await?.token.positions.get(partition))
    }

    async fn wait_beyond(&self, partition: Partition, position: Position) -> Result<Position> {
        loop {
            let head = self.head(HeadAt::WaitBeyond(partition, position)).await?;
            let head = head.token.positions.get(partition);
            if head > position {
                return Ok(head);
            }
        }
    }
}

#[async_trait]
impl LogWriter for RemoteLog {
    async fn append(&self, request: Append) -> Result<Appended> {
        self.client.append(&request).await
    }
}
