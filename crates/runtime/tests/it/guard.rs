use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use headwater_core::Error;
use headwater_runtime::auth::{Access, Allowed, Guard, Name, Need, Needs, Proofs, Subject, Verb};
use headwater_runtime::{Metrics, Security, SecurityOptions};
use http::{HeaderMap, Request, StatusCode};
use tempfile::TempDir;
use tower::ServiceExt;

const ADA: &str = "ada-0123456789-0123456789-0123";

const NEEDS: Needs = Needs {
    grpc: &[&[("/a.Service/Read", Need::May(Verb::Read)), ("/a.Service/Check", Need::Nothing)]],
    http: &[&[
        ("GET", "/open", Need::Nothing),
        ("GET", "/things/{thing}", Need::May(Verb::Read)),
        ("POST", "/things/{thing}", Need::May(Verb::Append)),
        ("POST", "/decide", Need::Decision),
    ]],
};

fn answer(_: &HeaderMap, error: &Error) -> Response {
    let status = match error {
        Error::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
        Error::PermissionDenied { .. } => StatusCode::FORBIDDEN,
        other => panic!("{other}"),
    };
    (status, error.to_string()).into_response()
}

/// A port where Ada may read, or one where nobody can prove anything.
struct Port {
    router: Router,
    metrics: Metrics,
    _folder: TempDir,
}

impl Port {
    fn new(authenticates: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, format!("ada: {ADA}\n")).unwrap();
        let bearer_tokens = authenticates.then_some(tokens);
        let proofs = Proofs { bearer_tokens, ..Proofs::default() };
        let security = Security::follow(SecurityOptions { tls: None, proofs }).unwrap();
        let metrics = Metrics::default();
        security.register(&metrics);
        let subject = Subject::Token(Name::Exactly("ada".into()));
        let access = Access(vec![Allowed { subject, verbs: vec![Verb::Read] }]);
        let guard = security.guard(NEEDS, access, "127.0.0.1:9".into(), answer);
        let done = async || "done";
        let router = Router::new()
            .route("/open", get(done))
            .route("/things/{thing}", get(done).post(done).delete(done))
            .route("/decide", post(done))
            .route("/forgotten", get(done))
            .route("/a.Service/{*rest}", post(done))
            .fallback(async || StatusCode::NOT_FOUND)
            .layer(from_fn_with_state(guard, Guard::check));
        Self { router, metrics, _folder: folder }
    }

    async fn ask(&self, method: &str, path: &str, authorization: &[&str]) -> (u16, String) {
        let mut request = Request::builder().method(method).uri(path);
        for value in authorization {
            request = request.header("authorization", *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 16).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn a_call_needs_what_the_table_says_and_one_that_it_does_not_name_is_nobodys() {
    let port = Port::new(true);
    let ada = format!("Bearer {ADA}");
    let ada = [ada.as_str()];
    let none: [&str; 0] = [];
    for (method, path, proof, status, part) in [
        ("GET", "/open", &none[..], 200, "done"),
        ("GET", "/things/1", &ada[..], 200, "done"),
        ("HEAD", "/things/1", &ada, 200, ""),
        ("GET", "/things/1", &none, 401, "GET /things/{thing} needs the verb Read"),
        (
            "POST",
            "/things/1",
            &ada,
            403,
            "needs the verb Append, which spec.access does not give to token \"ada\"",
        ),
        ("DELETE", "/things/1", &ada, 403, "DELETE /things/{thing} is answered to nobody"),
        ("GET", "/forgotten", &ada, 403, "is answered to nobody"),
        ("GET", "/forgotten", &none, 403, "is answered to nobody"),
        ("POST", "/decide", &ada, 403, "administration is at 127.0.0.1:9"),
        ("GET", "/nothing", &none, 404, ""),
        ("POST", "/a.Service/Check", &none, 200, "done"),
        ("POST", "/a.Service/Read", &ada, 200, "done"),
        ("POST", "/a.Service/Read", &none, 401, "/a.Service/Read needs the verb Read"),
        ("POST", "/a.Service/%52ead", &ada, 403, "is answered to nobody"),
        ("POST", "/a.Service/Read/", &ada, 403, "is answered to nobody"),
        ("POST", "/a.Service/Write", &ada, 403, "is answered to nobody"),
    ] {
        let (got, body) = port.ask(method, path, proof).await;
        assert!(got == status && body.contains(part), "{method} {path}: {got} {body}");
        assert!(!body.contains(ADA), "{body}");
    }
    let metrics = port.metrics.render().unwrap();
    for line in [
        "headwater_calls_refused_total{reason=\"unauthenticated\"} 2\n",
        "headwater_calls_refused_total{reason=\"forbidden\"} 8\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}

#[tokio::test]
async fn a_proof_that_does_not_hold_is_refused_whatever_it_is() {
    let port = Port::new(true);
    let twice = format!("Bearer {ADA}");
    for (proof, part) in [
        (&["Bearer nobody"][..], "is not known here"),
        (&["Bearer "], "is no bearer token"),
        (&["Bearer"], "is no bearer token"),
        (&["Basic YTpi"], "is no bearer token"),
        (&["Bearer a.b.c"], "is not known here"),
        (&[&twice, &twice], "more than one Authorization header"),
    ] {
        let (status, body) = port.ask("GET", "/things/1", proof).await;
        assert!(status == 401 && body.contains(part), "{proof:?}: {status} {body}");
    }
    let (status, _) = port.ask("GET", "/things/1", &[&format!("bearer  {ADA}")]).await;
    assert_eq!(status, 200, "the scheme's case does not matter");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_waits_for_the_end_of_what_is_small_and_comes() {
    let port = Port::new(true);
    // The length that is said, and how long it takes to come, in ms.
    for (length, takes, is_read) in [
        ("6", 300, true),
        ("65536", 300, true),
        ("65537", 300, false),
        ("6", 60_000, false),
        ("", 300, false),
    ] {
        let at_end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&at_end);
        let parts = futures_util::stream::unfold(0, move |part| {
            let ended = Arc::clone(&ended);
            async move {
                if part == 2 {
                    ended.store(true, Ordering::Relaxed);
                    return None;
                }
                tokio::time::sleep(Duration::from_millis(takes / 2)).await;
                Some((Ok::<_, std::convert::Infallible>("abc"), part + 1))
            }
        });
        let mut request = Request::builder().method("POST").uri("/things/1");
        if !length.is_empty() {
            request = request.header("content-length", length);
        }
        let response =
            port.router.clone().oneshot(request.body(Body::from_stream(parts)).unwrap()).await.unwrap();
        assert_eq!(response.status(), 401);
        assert_eq!(at_end.load(Ordering::Relaxed), is_read, "{length} bytes in {takes} ms");
    }
}

#[tokio::test]
async fn where_nobody_can_prove_anything_all_is_answered_but_decisions() {
    let port = Port::new(false);
    for (method, path, status) in [
        ("GET", "/things/1", 200),
        ("DELETE", "/things/1", 200),
        ("GET", "/forgotten", 200),
        ("POST", "/a.Service/Write", 200),
        ("POST", "/decide", 403),
    ] {
        let (got, body) = port.ask(method, path, &["Bearer nobody"]).await;
        assert_eq!(got, status, "{method} {path}: {body}");
    }
}
