//! The layer before all services of a port.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use headwater_core::{Error, Result};
use http::header::{CONTENT_LENGTH, HOST, ORIGIN};
use http::{HeaderMap, Method};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::{Access, Authentication, Caller, Verb};
use crate::Metrics;
use crate::listener::Peer;

/// What a call needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it tells nothing that is not public, to platforms that have no proof.
    Nothing,
    /// That the caller may do this.
    May(Verb),
    /// That it comes to the listener of administration.
    Decision,
}

/// Bytes of a refused request that are read before the answer.
const PASSED_OVER: usize = 64 << 10;
/// How long that may take. A request that comes at the speed of a person typing can do with a reset.
const PASSED_OVER_WITHIN: Duration = Duration::from_secs(1);

/// How the one route of a gRPC service ends, under which all of its methods are.
const SERVICE: &str = "/{*rest}";

/// What each call needs. What is not here is refused.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// Methods of gRPC: `/package.Service/Method`.
    pub grpc: &'static [&'static [(&'static str, Need)]],
    /// Routes of HTTP: a method, and a path as axum has it.
    pub http: &'static [&'static [(&'static str, &'static str, Need)]],
}

impl Needs {
    /// What a call of `method` needs, where `route` is what axum has found for `path`.
    pub fn of(&self, method: &Method, route: &str, path: &str) -> Option<Need> {
        // A service of gRPC is one route for all of its methods.
        if route.ends_with(SERVICE) {
            let mut methods = self.grpc.iter().copied().flatten();
            return methods.find(|(known, _)| *known == path).map(|(_, need)| *need);
        }
        // axum answers HEAD where there is GET.
        let method = if method == Method::HEAD { "GET" } else { method.as_str() };
        let mut routes = self.http.iter().copied().flatten();
        routes.find(|(known, at, _)| *known == method && *at == route).map(|(_, _, need)| *need)
    }
}

/// Counts refusals, by why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Family<[(&'static str, &'static str); 1], Counter>);

impl Refusals {
    pub(crate) fn register(&self, metrics: &Metrics) {
        for reason in ["unauthenticated", "forbidden"] {
            drop(self.0.get_or_create(&[("reason", reason)]));
        }
        metrics.register("calls_refused", "Calls refused for who sent them, by why", self.0.clone());
    }
}

/// Marks requests to a port where callers prove who they are: what is answered to anybody there gives no details away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Discreet;

/// Lets a call through when its caller may do what it does.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    needs: Needs,
    /// `None`: whoever reaches the port may do everything that is no decision.
    access: Option<(Authentication, Access)>,
    /// Where decisions are taken.
    administration: String,
    refusals: Refusals,
    answer: fn(&HeaderMap, &Error) -> Response,
}

impl Guard {
    /// A guard of a port that is for the machine itself, whatever is asked.
    pub fn of_the_machine(answer: fn(&HeaderMap, &Error) -> Response) -> Self {
        Self::new(Needs { grpc: &[], http: &[] }, None, String::new(), Refusals::default(), answer)
    }

    /// A guard of what `needs` lists; with `access`, callers have to prove who they are. Decisions are refused, and `administration`
    /// says where they are taken. `answer` makes the answer to a request with these headers that was refused.
    pub(crate) fn new(
        needs: Needs,
        access: Option<(Authentication, Access)>,
        administration: String,
        refusals: Refusals,
        answer: fn(&HeaderMap, &Error) -> Response,
    ) -> Self {
        Self(Arc::new(Inner { needs, access, administration, refusals, answer }))
    }

    /// The middleware: `axum::middleware::from_fn_with_state(guard, Guard::check)`, as the outermost layer of a port's router.
    ///
    /// Where nobody proves anything the port is for the machine itself, and for no web page from elsewhere that a browser on it shows.
    pub async fn check(State(guard): State<Self>, mut request: Request, next: Next) -> Response {
        if guard.0.access.is_some() {
            request.extensions_mut().insert(Discreet);
        }
        match guard.0.check(&request) {
            Ok(()) => next.run(request).await,
            Err(error) => {
                let answer = (guard.0.answer)(request.headers(), &error);
                pass_over_body(request).await;
                answer
            }
        }
    }
}

/// Reads what a refused request carries, where that is little. Over HTTP/2 an answer before its end makes hyper reset the stream behind it, which
/// is allowed, and which some clients (curl 7.88) take for a failure without an answer.
async fn pass_over_body(request: Request) {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length <= PASSED_OVER) {
        let body = axum::body::to_bytes(request.into_body(), PASSED_OVER);
        // Whatever comes of it, the answer stands.
        let _ = tokio::time::timeout(PASSED_OVER_WITHIN, body).await;
    }
}

impl Inner {
    fn check(&self, request: &Request) -> Result<()> {
        if self.access.is_none() {
            from_the_machine(request)?;
        }
        // Nothing is there: the answer says so to anybody.
        let Some(route) = request.extensions().get::<MatchedPath>() else { return Ok(()) };
        let (method, route, path) = (request.method(), route.as_str(), request.uri().path());
        let asked = || if route.ends_with(SERVICE) { path.to_owned() } else { format!("{method} {route}") };
        let verb = match self.needs.of(method, route, path) {
            Some(Need::Nothing) => return Ok(()),
            Some(Need::Decision) => {
                return self.refused(Error::permission_denied(format!(
                    "{} is not answered here: administration is at {}, on the machine itself",
                    asked(),
                    self.administration
                )));
            }
            Some(Need::May(verb)) => Some(verb),
            None => None,
        };
        let Some((authentication, access)) = &self.access else { return Ok(()) };
        let Some(verb) = verb else {
            let message = format!("{} is answered to nobody", asked());
            return self.refused(Error::permission_denied(message));
        };
        let peer = request.extensions().get::<Peer>();
        let caller = match authentication.caller(request.headers(), peer) {
            Ok(caller) => caller,
            Err(error) => return self.refused(error),
        };
        if access.allows(&caller, verb) { Ok(()) } else { self.refused(missing(&asked(), verb, &caller)) }
    }

    fn refused(&self, error: Error) -> Result<()> {
        let is_unknown = matches!(error, Error::Unauthenticated { .. });
        let reason = if is_unknown { "unauthenticated" } else { "forbidden" };
        self.refusals.0.get_or_create(&[("reason", reason)]).inc();
        tracing::debug!(%error, "a call is refused");
        Err(error)
    }
}

/// A browser on the machine reaches its ports, and pages from anywhere run in it: they say where they are from, or call the port by a name that
/// is not the machine's.
fn from_the_machine(request: &Request) -> Result<()> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let why = match (text(ORIGIN), request.uri().host(), text(HOST)) {
        (Some(origin), ..) if !is_local(origin.split_once("://").map_or(origin, |(_, host)| host)) => {
            format!("a page of {origin} asks")
        }
        (_, Some(host), _) | (_, None, Some(host)) if !is_local(host) => format!("it is asked for as {host}"),
        _ => return Ok(()),
    };
    Err(Error::permission_denied(format!(
        "this port is for the machine itself, and {why}: call it by a loopback address, such as http://127.0.0.1:PORT"
    )))
}

/// Whether `HOST` or `HOST:PORT` is the machine itself.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn missing(asked: &str, verb: Verb, caller: &Caller) -> Error {
    if caller.0.is_empty() {
        return Error::unauthenticated(format!(
            "{asked} needs the verb {verb}, and the caller proves nothing: send a bearer token (`Authorization: Bearer TOKEN`), \
             or show a client certificate"
        ));
    }
    Error::permission_denied(format!(
        "{asked} needs the verb {verb}, which spec.access does not give to {caller}: add a rule for that subject and verb, or call as another"
    ))
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("access", &self.0.access).finish_non_exhaustive()
    }
}
