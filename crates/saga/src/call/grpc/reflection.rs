//! Servers that describe themselves.

use std::collections::{BTreeMap, BTreeSet};

use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use prost_types::FileDescriptorProto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use super::channel::{Channel, Witness};
use super::{code, may_pass};
use crate::call::{Answer, answers};

/// The method of each version, newest first. Their messages are the same on the wire.
const VERSIONS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Files, and bytes of them, that a service may need: a server that never ends describing itself is left.
const MAX_FILES: usize = 1_000;
const MAX_BYTES: usize = 16 << 20;

/// What went wrong.
enum Fault {
    /// The server's own status.
    Status(Status),
    /// Another answer.
    Answer(Answer),
}

impl From<Answer> for Fault {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// Asks the server what `service` is.
pub(super) async fn describe(channel: &Channel, service: &str) -> Result<ServiceDescriptor, Answer> {
    for version in VERSIONS {
        match described(channel, version, service).await {
            Ok(Some(known)) => return Ok(known),
            Ok(None) => {
                let services = services(channel, version).await;
                return Err(Answer::failure(format!(
                    "the server has no service \"{service}\"; it has: {}",
                    listed(&services)
                )));
            }
            Err(Fault::Status(status)) if status.code() == Code::Unimplemented => {}
            Err(Fault::Status(status)) => {
                let reason = format!(
                    "asked for its reflection, the server answered {}: {}",
                    code(status.code()),
                    answers::short(status.message())
                );
                return Err(if may_pass(status.code()) {
                    Answer::unanswered(reason)
                } else {
                    Answer::failure(reason)
                });
            }
            Err(Fault::Answer(answer)) => return Err(answer),
        }
    }
    Err(Answer::failure(
        "the server has no reflection: switch it on there, or name a descriptor set in descriptorRef",
    ))
}

/// Names for people.
pub(super) fn listed(services: &[String]) -> String {
    if services.is_empty() { "none that it tells".to_owned() } else { answers::short(&services.join(", ")) }
}

async fn described(
    channel: &Channel,
    version: &'static str,
    service: &str,
) -> Result<Option<ServiceDescriptor>, Fault> {
    let mut talk = Talk::new(channel, version);
    let mut files: BTreeMap<String, FileDescriptorProto> = BTreeMap::new();
    let mut asked = BTreeSet::new();
    let mut bytes = 0;
    let mut questions = vec![MessageRequest::FileContainingSymbol(service.to_owned())];
    while let Some(question) = questions.pop() {
        if let MessageRequest::FileByFilename(name) = &question
            && (files.contains_key(name) || !asked.insert(name.clone()))
        {
            continue;
        }
        let found = match talk.ask(question.clone()).await {
            Ok(MessageResponse::FileDescriptorResponse(found)) => found.file_descriptor_proto,
            Ok(MessageResponse::ErrorResponse(error)) => {
                let status = Status::new(Code::from_i32(error.error_code), error.error_message);
                match missing(question, status)? {
                    Some(file) => vec![file],
                    None => return Ok(None),
                }
            }
            Ok(_) => return Err(strange("an answer to another question").into()),
            // Some servers end the conversation instead; what follows begins another one.
            Err(Fault::Status(status)) if status.code() == Code::NotFound => {
                talk = Talk::new(channel, version);
                match missing(question, status)? {
                    Some(file) => vec![file],
                    None => return Ok(None),
                }
            }
            Err(fault) => return Err(fault),
        };
        for file in found {
            bytes += file.len();
            if files.len() >= MAX_FILES || bytes > MAX_BYTES {
                return Err(strange("more files than a service can need").into());
            }
            let file = FileDescriptorProto::decode(file.as_slice())
                .map_err(|error| strange(&format!("a file that is none ({error})")))?;
            questions.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
            files.insert(file.name().to_owned(), file);
        }
        if files.is_empty() {
            return Ok(None);
        }
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files.into_values())
        .map_err(|error| strange(&format!("files that do not fit together ({error})")))?;
    Ok(pool.get_service_by_name(service))
}

/// A file that the server does not have but everybody knows, as its bytes. `None`: the service itself is not there.
fn missing(question: MessageRequest, status: Status) -> Result<Option<Vec<u8>>, Fault> {
    match question {
        MessageRequest::FileByFilename(name) => match DescriptorPool::global().get_file_by_name(&name) {
            Some(file) => Ok(Some(file.encode_to_vec())),
            None => Err(strange(&format!("no file \"{name}\", which another one imports")).into()),
        },
        _ if status.code() == Code::NotFound => Ok(None),
        _ => Err(Fault::Status(status)),
    }
}

/// The services that there are, as far as the server says.
async fn services(channel: &Channel, version: &'static str) -> Vec<String> {
    match Talk::new(channel, version).ask(MessageRequest::ListServices(String::new())).await {
        Ok(MessageResponse::ListServicesResponse(list)) => list
            .service
            .into_iter()
            .map(|it| it.name)
            .filter(|it| !it.starts_with("grpc.reflection."))
            .collect(),
        _ => Vec::new(),
    }
}

fn strange(fault: &str) -> Answer {
    Answer::unanswered(format!("asked for its reflection, the server gave {fault}"))
}

/// Questions and answers, one by one.
struct Talk<'a> {
    channel: &'a Channel,
    version: &'static str,
    witness: Witness,
    open: Option<(mpsc::Sender<ServerReflectionRequest>, Streaming<ServerReflectionResponse>)>,
}

impl<'a> Talk<'a> {
    fn new(channel: &'a Channel, version: &'static str) -> Self {
        Self { channel, version, witness: Witness::default(), open: None }
    }

    async fn ask(&mut self, question: MessageRequest) -> Result<MessageResponse, Fault> {
        let question = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
        let answer = match &mut self.open {
            Some((questions, answers)) => {
                // If it is not taken, the answers have ended and say why.
                let _ = questions.send(question).await;
                answers.message().await
            }
            None => self.begin(question).await,
        };
        match answer {
            Ok(Some(ServerReflectionResponse { message_response: Some(answer), .. })) => Ok(answer),
            Ok(_) => Err(strange("no answer").into()),
            Err(status) if self.witness.spoke() => Err(Fault::Status(status)),
            Err(status) => Err(self.channel.silent(&status).into()),
        }
    }

    async fn begin(
        &mut self,
        question: ServerReflectionRequest,
    ) -> Result<Option<ServerReflectionResponse>, Status> {
        let (questions, asked) = mpsc::channel(1);
        // Servers may say nothing before they were asked something. There is room for it.
        let _ = questions.send(question).await;
        let answers = self
            .channel
            .grpc(&self.witness)
            .streaming(
                Request::new(ReceiverStream::new(asked)),
                PathAndQuery::from_static(self.version),
                ProstCodec::default(),
            )
            .await?
            .into_inner();
        let (_, answers) = self.open.insert((questions, answers));
        answers.message().await
    }
}
