//! The caller of the real world.

use std::sync::Arc;

use async_trait::async_trait;
use headwater_core::Result;

use super::connections::Connections;
use super::{Answer, Call, Caller, Request, Surroundings, append, grpc, http};

/// Sends calls over HTTP and gRPC and appends events.
///
/// Connections are kept and shared, by where they go and how they are protected. Proxies are not used, and redirects not followed.
pub struct Calls {
    surroundings: Arc<dyn Surroundings>,
    connections: Connections,
    descriptors: grpc::Descriptors,
}

impl Calls {
    /// A caller in these surroundings. It connects when it is first used.
    ///
    /// # Errors
    /// `Internal` when this build has no TLS that works.
    pub fn new(surroundings: Arc<dyn Surroundings>) -> Result<Self> {
        let connections = Connections::new(surroundings.clone())?;
        Ok(Self { surroundings, connections, descriptors: grpc::Descriptors::default() })
    }
}

#[async_trait]
impl Caller for Calls {
    async fn call(&self, call: &Call) -> Answer {
        let attempt = async {
            match &call.request {
                Request::Http(request) => {
                    http::send(&self.connections, &*self.surroundings, call, request).await
                }
                Request::Grpc(request) => {
                    grpc::send(&self.connections, &*self.surroundings, &self.descriptors, call, request).await
                }
                Request::Append(request) => append::send(&*self.surroundings, call, request).await,
            }
        };
        tokio::time::timeout(call.timeout, attempt).await.unwrap_or_else(|_| {
            Answer::unanswered(format!("{}: no answer within {:?}", what(&call.request), call.timeout))
        })
    }
}

/// What a request does, for people.
fn what(request: &Request) -> String {
    match request {
        Request::Http(request) => http::what(request),
        Request::Grpc(request) => grpc::what(request),
        Request::Append(request) => append::what(request),
    }
}
