//! The API of sagas over gRPC: `headwater.saga.v1.Sagas`, one to one with what HTTP offers.

use headwater_api::convert::time_to_wire;
use headwater_api::errors::to_status;
use headwater_api::saga_v1 as v1;
use headwater_core::{Error, Result};
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use v1::sagas_server::SagasServer;

use crate::catalog::SagaCatalog;
use crate::graph::mermaid;
use crate::history::{Cause, Command, Commanded, Direction};
use crate::instance::State;
use crate::journal::NotStarted;
use crate::paging::{self, Parameters};
use crate::service::{Generation, SagaStatus};
use crate::show::{Instance, Line, Summary};

/// The name of the service.
pub const SERVICE: &str = <SagasServer<Grpc> as tonic::server::NamedService>::NAME;

/// The service for all sagas of `catalog`. It changes things and asks nobody who they are: serve it where only administrators reach it.
pub fn routes(catalog: SagaCatalog) -> Routes {
    Routes::new(SagasServer::new(Grpc(catalog)))
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Grpc(SagaCatalog);

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(result: Result<T>) -> Answer<T> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

#[tonic::async_trait]
impl v1::sagas_server::Sagas for Grpc {
    async fn list_sagas(&self, _: Request<v1::ListSagasRequest>) -> Answer<v1::ListSagasResponse> {
        let sagas = self.0.sagas().iter().map(|service| service.status().into()).collect();
        Ok(Response::new(v1::ListSagasResponse { sagas }))
    }

    async fn get_saga(&self, request: Request<v1::GetSagaRequest>) -> Answer<v1::Saga> {
        answer(self.0.saga(&request.into_inner().saga).map(|service| service.status().into()))
    }

    async fn list_instances(
        &self,
        request: Request<v1::ListInstancesRequest>,
    ) -> Answer<v1::ListInstancesResponse> {
        answer(self.instances(request.into_inner()).await)
    }

    async fn get_instance(&self, request: Request<v1::GetInstanceRequest>) -> Answer<v1::Instance> {
        let v1::GetInstanceRequest { saga, instance } = request.into_inner();
        let shown = async { self.0.saga(&saga)?.show(&instance).await };
        answer(shown.await.map(Into::into))
    }

    async fn retry(&self, request: Request<v1::CommandRequest>) -> Answer<v1::Instance> {
        answer(self.command(Command::Retry, request.into_inner()).await)
    }

    async fn skip(&self, request: Request<v1::CommandRequest>) -> Answer<v1::Instance> {
        answer(self.command(Command::Skip, request.into_inner()).await)
    }

    async fn abort(&self, request: Request<v1::CommandRequest>) -> Answer<v1::Instance> {
        answer(self.command(Command::Abort, request.into_inner()).await)
    }

    async fn resume(&self, request: Request<v1::CommandRequest>) -> Answer<v1::Instance> {
        answer(self.command(Command::Resume, request.into_inner()).await)
    }

    async fn list_not_started(
        &self,
        request: Request<v1::ListNotStartedRequest>,
    ) -> Answer<v1::ListNotStartedResponse> {
        answer(self.not_started(request.into_inner()).await)
    }

    async fn get_graph(&self, request: Request<v1::GetGraphRequest>) -> Answer<v1::GetGraphResponse> {
        let saga = self.0.saga(&request.into_inner().saga);
        answer(
            saga.map(|service| v1::GetGraphResponse {
                mermaid: mermaid(&service.definition(), service.name()),
            }),
        )
    }
}

impl Grpc {
    async fn instances(&self, request: v1::ListInstancesRequest) -> Result<v1::ListInstancesResponse> {
        let service = self.0.saga(&request.saga)?;
        let states = request.states.iter().map(|state| state_from_wire(*state)).collect::<Result<_>>()?;
        let after = Some(request.page_token).filter(|token| !token.is_empty());
        let parameters = Parameters::new(states, limit(request.page_size)?, after.as_deref())
            .map_err(|error| renamed(error, "after", "page_token"))?;
        let (instances, next) = paging::page(&service, &parameters).await?;
        Ok(v1::ListInstancesResponse {
            instances: instances.into_iter().map(Into::into).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }

    async fn command(&self, command: Command, request: v1::CommandRequest) -> Result<v1::Instance> {
        let service = self.0.saga(&request.saga)?;
        let commanded = Commanded::new(command, request.step, request.reason)?;
        service.command(&request.instance, commanded).await?;
        Ok(service.show(&request.instance).await?.into())
    }

    async fn not_started(&self, request: v1::ListNotStartedRequest) -> Result<v1::ListNotStartedResponse> {
        let service = self.0.saga(&request.saga)?;
        let after = match request.page_token.as_str() {
            "" => headwater_core::Version::ZERO,
            token => paging::number(token).map_err(|error| renamed(error, "after", "page_token"))?,
        };
        let (events, next) = service.not_started(after, limit(request.page_size)?).await?;
        Ok(v1::ListNotStartedResponse {
            events: events.into_iter().map(Into::into).collect(),
            next_page_token: next.map(|next| next.to_string()).unwrap_or_default(),
        })
    }
}

fn limit(page_size: u32) -> Result<usize> {
    match page_size {
        0 => Ok(paging::DEFAULT_LIMIT),
        size => paging::limit(&size.to_string()).map_err(|error| renamed(error, "limit", "page_size")),
    }
}

/// The field as this API calls it.
fn renamed(error: Error, from: &str, to: &str) -> Error {
    match error {
        Error::Invalid { field, message } if field == from => Error::invalid(to, message),
        other => other,
    }
}

fn state_from_wire(state: i32) -> Result<State> {
    match v1::State::try_from(state) {
        Ok(v1::State::Running) => Ok(State::Running),
        Ok(v1::State::Compensating) => Ok(State::Compensating),
        Ok(v1::State::NeedsAttention) => Ok(State::NeedsAttention),
        Ok(v1::State::Completed) => Ok(State::Completed),
        Ok(v1::State::Compensated) => Ok(State::Compensated),
        Ok(v1::State::Unspecified) | Err(_) => Err(Error::invalid(
            "states",
            format!(
                "{state} is no state; give some of headwater.saga.v1.State, or none for those that have not ended"
            ),
        )),
    }
}

impl From<State> for v1::State {
    fn from(state: State) -> Self {
        match state {
            State::Running => Self::Running,
            State::Compensating => Self::Compensating,
            State::NeedsAttention => Self::NeedsAttention,
            State::Completed => Self::Completed,
            State::Compensated => Self::Compensated,
        }
    }
}

impl From<SagaStatus> for v1::Saga {
    fn from(status: SagaStatus) -> Self {
        Self {
            name: status.name,
            definition: status.definition,
            running: status.running as u64,
            compensating: status.compensating as u64,
            needs_attention: status.needs_attention as u64,
            started: status.started,
            ignored: status.ignored,
            not_started: status.not_started,
            replies: status.replies,
            unmatched: status.unmatched,
            message: status.message,
            coordinates: status.coordinates,
            coordinated_by: status.coordinated_by,
            completed: status.completed,
            compensated: status.compensated,
            generations: status.generations.into_iter().map(v1::Generation::from).collect(),
            oldest_running_seconds: status.oldest_running_seconds,
        }
    }
}

impl From<Generation> for v1::Generation {
    fn from(generation: Generation) -> Self {
        Self { digest: generation.digest, running: generation.running as u64 }
    }
}

impl From<Summary> for v1::InstanceSummary {
    fn from(summary: Summary) -> Self {
        Self {
            instance: summary.instance,
            state: v1::State::from(summary.state).into(),
            at: summary.at,
            reason: summary.reason,
            started_at: Some(time_to_wire(summary.started_at)),
            changed_at: Some(time_to_wire(summary.changed_at)),
            definition: summary.definition,
        }
    }
}

impl From<Instance> for v1::Instance {
    fn from(shown: Instance) -> Self {
        Self {
            summary: Some(shown.summary.into()),
            saga: shown.saga,
            event: Some(shown.event.into()),
            history: shown.history.into_iter().map(Into::into).collect(),
            next: shown.next,
        }
    }
}

impl From<Line> for v1::Line {
    fn from(line: Line) -> Self {
        let direction = match line.direction {
            None => v1::Direction::Unspecified,
            Some(Direction::Do) => v1::Direction::Do,
            Some(Direction::Undo) => v1::Direction::Undo,
        };
        Self {
            time: Some(time_to_wire(line.time)),
            what: line.what,
            step: line.step,
            direction: direction.into(),
            text: line.text,
            key: line.key,
        }
    }
}

impl From<Cause> for v1::Cause {
    fn from(cause: Cause) -> Self {
        Self {
            id: cause.id.to_string(),
            r#type: cause.event_type,
            stream_id: cause.stream_id,
            partition: cause.partition.into(),
            position: cause.position,
            time: Some(time_to_wire(cause.time)),
            correlation_id: cause.correlation_id,
            traceparent: cause.traceparent,
        }
    }
}

impl From<NotStarted> for v1::NotStarted {
    fn from(not_started: NotStarted) -> Self {
        Self { event: Some(not_started.event.into()), reason: not_started.reason }
    }
}
