//! A participant over gRPC whose answers a test chooses.

use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::post;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::service::Routes;
use tower::ServiceExt;

use crate::support::Server;

/// What to answer.
#[derive(Clone)]
pub(crate) enum Reply {
    /// This message, in its JSON form.
    Message(&'static str),
    /// A status.
    Status(u16, &'static str),
    /// These bytes of the body, and these trailers if any.
    Bytes(Vec<u8>, Option<(&'static str, &'static str)>),
    /// An answer of HTTP.
    Http(u16),
    /// Nothing.
    Silence,
}

/// Which reflection there is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reflection {
    V1,
    V1Alpha,
    None,
}

/// The server and what it was asked.
pub(crate) struct Bank {
    pub(crate) server: Server,
    pub(crate) seen: Arc<Mutex<Vec<(HeaderMap, String)>>>,
    pub(crate) reflected: Arc<Mutex<usize>>,
    routes: Arc<Mutex<Router>>,
}

/// The descriptor set of the bank's proto.
pub(crate) fn descriptors() -> Vec<u8> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    protox::compile(["bank.proto"], [here]).unwrap().encode_to_vec()
}

impl Bank {
    pub(crate) async fn start(reply: Reply) -> Self {
        Self::with(Reflection::V1, reply).await
    }

    pub(crate) async fn with(reflection: Reflection, reply: Reply) -> Self {
        let (seen, reflected) = (Arc::default(), Arc::new(Mutex::new(0)));
        let routes = Arc::new(Mutex::new(routes(reflection, &descriptors(), "Debit", reply, &seen)));
        let (current, count) = (routes.clone(), reflected.clone());
        let router = Router::new().fallback(move |request: Request| {
            *count.lock().unwrap() += usize::from(request.uri().path().contains("Reflection"));
            let now = current.lock().unwrap().clone();
            now.oneshot(request)
        });
        Self { server: Server::start(router).await, seen, reflected, routes }
    }

    /// Rolls out another version of the service, whose method is `method`, on the same connections.
    pub(crate) fn roll_out(&self, descriptors: &[u8], method: &str, reply: Reply) {
        *self.routes.lock().unwrap() = routes(Reflection::V1, descriptors, method, reply, &self.seen);
    }

    pub(crate) fn reflections(&self) -> usize {
        *self.reflected.lock().unwrap()
    }
}

fn routes(
    reflection: Reflection,
    descriptors: &[u8],
    method: &str,
    reply: Reply,
    seen: &Arc<Mutex<Vec<(HeaderMap, String)>>>,
) -> Router {
    let pool = DescriptorPool::decode(descriptors).unwrap();
    let builder =
        tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(descriptors);
    let routes = match reflection {
        Reflection::V1 => Routes::new(builder.build_v1().unwrap()),
        Reflection::V1Alpha => Routes::new(builder.build_v1alpha().unwrap()),
        Reflection::None => Routes::default(),
    };
    let seen = seen.clone();
    let debit = move |request: Request| {
        let (pool, reply, seen) = (pool.clone(), reply.clone(), seen.clone());
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let kind = pool.get_message_by_name("bank.v1.DebitRequest").unwrap();
            let message = DynamicMessage::decode(kind, &body[5..]).unwrap();
            seen.lock().unwrap().push((head.headers, serde_json::to_string(&message).unwrap()));
            answer(&pool, reply).await
        }
    };
    routes.into_axum_router().route(&format!("/bank.v1.Accounts/{method}"), post(debit))
}

async fn answer(pool: &DescriptorPool, reply: Reply) -> Response {
    let (bytes, trailers) = match reply {
        Reply::Silence => std::future::pending().await,
        Reply::Http(status) => {
            return Response::builder().status(status).body(Body::from("<html>no</html>")).unwrap();
        }
        Reply::Status(code, message) => {
            return Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", code)
                .header("grpc-message", message)
                .body(Body::empty())
                .unwrap();
        }
        Reply::Message(json) => {
            let kind = pool.get_message_by_name("bank.v1.DebitResponse").unwrap();
            let message =
                DynamicMessage::deserialize(kind, &mut serde_json::Deserializer::from_str(json)).unwrap();
            (framed(&message.encode_to_vec()), Some(("grpc-status", "0")))
        }
        Reply::Bytes(bytes, trailers) => (bytes, trailers),
    };
    let mut frames = vec![Ok::<_, std::io::Error>(Frame::data(Bytes::from(bytes)))];
    if let Some((name, value)) = trailers {
        let mut map = HeaderMap::new();
        map.insert(name, value.parse().unwrap());
        map.insert("x-served-by", "bank-7".parse().unwrap());
        frames.push(Ok(Frame::trailers(map)));
    }
    Response::builder()
        .header("content-type", "application/grpc")
        .body(Body::new(StreamBody::new(futures_util::stream::iter(frames))))
        .unwrap()
}

/// A message as it travels.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(message);
    frame
}
