use headwater_core::{Error, Partition, Position, Positions, Result, Token};
use headwater_log::{LogReader, StartFrom};
use headwater_resources::projection::{
    ErrorPolicy, QueryState, Rollout, StartFrom as SpecStart, StartFromType,
};
use headwater_resources::shared::WorkState;
use headwater_resources::{EventStreamSpec, ProjectionSpec, digest};
use headwater_view::SpecGeneration;
use jiff::Timestamp;

use crate::definition::Definition;
use crate::rollout::Wanted;

/// What a projection is to be, taken from its manifest and its event stream's.
#[derive(Debug, Clone)]
pub struct Desired {
    /// What decides its rows.
    pub definition: Definition,
    /// The digest by which revisions of it are known.
    pub digest: String,
    /// How new the manifests are, where that is known: beside processes with newer ones, this one decides nothing about revisions.
    pub generation: Option<SpecGeneration>,
    /// Where its first build starts.
    pub start_from: SpecStart,
    /// What happens when a rule fails.
    pub policy: ErrorPolicy,
    /// How a new revision takes over.
    pub rollout: Rollout,
    /// Whether it folds.
    pub state: WorkState,
    /// Whether it answers queries.
    pub query: QueryState,
}

impl Desired {
    /// What the manifests say. They must have passed validation; what it cannot see is checked when it is reconciled.
    pub fn new(projection: &ProjectionSpec, event_stream: &EventStreamSpec) -> Self {
        Self {
            definition: Definition::new(projection, &event_stream.event_types),
            digest: digest::projection(projection, event_stream).to_string(),
            generation: None,
            start_from: projection.start_from.clone(),
            policy: projection.on_error.policy,
            rollout: projection.rollout.clone(),
            state: projection.state,
            query: projection.query.state,
        }
    }

    /// It, of manifests that are so new.
    #[must_use]
    pub fn of(self, generation: Option<SpecGeneration>) -> Self {
        Self { generation, ..self }
    }

    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted { digest: &self.digest, generation: self.generation }
    }

    /// The positions after which the first build starts, in the log as it is `now`.
    pub(crate) async fn start(&self, reader: &dyn LogReader, now: Timestamp) -> Result<Positions> {
        let log_id = reader.descriptor().log_id;
        let start = match self.start_from.r#type {
            StartFromType::Beginning => StartFrom::Beginning,
            StartFromType::End => StartFrom::End,
            StartFromType::Time => match &self.start_from.time {
                // It is resolved to positions once and for all, and those of a time to come are not known: asked again then.
                Some(time) if time.0 > now => {
                    return Err(Error::invalid(
                        "startFrom.time",
                        format!("{} is still to come; the first build begins then", time.0),
                    ));
                }
                Some(time) => StartFrom::Time(time.0),
                None => return Err(Error::invalid("startFrom.time", "it is missing; type Time needs it")),
            },
            StartFromType::Position => {
                let heads = reader.heads().await?;
                let positions = self.start_from.position.iter().flatten().map(|start| {
                    let partition = u16::try_from(start.partition).map_err(|_| {
                        Error::invalid("startFrom.position", format!("{} is no partition", start.partition))
                    })?;
                    let head = heads.get(usize::from(partition)).map_or(u64::MAX, |head| head.position.get());
                    if start.position.0 > head {
                        return Err(Error::invalid(
                            "startFrom.position",
                            format!(
                                "partition {partition} has come to position {head}, and {} is beyond it; the first build begins when the log is there",
                                start.position
                            ),
                        ));
                    }
                    Ok((Partition::new(partition), Position::new(start.position.0)))
                });
                StartFrom::After(Token::new(log_id, positions.collect::<Result<_>>()?))
            }
        };
        start.resolve(reader).await.map_err(|error| error.within("startFrom"))
    }
}
