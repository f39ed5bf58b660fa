//! Calls over TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::Version;
use axum::serve::Listener;
use headwater_resources::shared::{ClientTls, LocalRef, TlsMode};
use headwater_saga::{Answer, Calls, GrpcRequest, HttpRequest, Json};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use uuid::Uuid;

use crate::support::{
    Server, World, assert_has, calls, config_map, failure, part, post, send, success, unanswered,
};

/// A certificate authority with a name of its own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, Uuid::new_v4().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for `host` and its key.
    fn issue(&self, host: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &*self.0).unwrap();
        (certificate, key)
    }

    /// Puts a client's certificate into a Secret.
    fn issue_to(&self, world: &World, secret: &str) {
        let (certificate, key) = self.issue("saga");
        world.set(secret, "tls.crt", certificate.pem());
        world.set(secret, "tls.key", key.serialize_pem());
    }
}

/// Connections that have greeted each other. Those that could not are dropped.
struct Greeted(TcpListener, TlsAcceptor);

impl Listener for Greeted {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, address) = self.0.accept().await.unwrap();
            if let Ok(stream) = self.1.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A participant with a certificate of `authority` for `host`, which asks for certificates of `clients` if that is given.
async fn serve(authority: &Authority, host: &str, clients: Option<&Authority>, alpn: &[&str]) -> Server {
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.0.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (certificate, key) = authority.issue(host);
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let mut config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|it| it.as_bytes().to_vec()).collect();
    let greet = |request: Request| async move {
        if request.version() == Version::HTTP_2 { "\"2\"" } else { "\"1.1\"" }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Server::over(Greeted(listener, TlsAcceptor::from(Arc::new(config))), Router::new().fallback(greet))
}

fn full() -> ClientTls {
    ClientTls {
        mode: TlsMode::VerifyFull,
        ca_ref: Some(config_map("ca", "ca.crt")),
        client_cert_secret_ref: None,
        server_name: None,
    }
}

async fn call(calls: &Calls, tls: ClientTls) -> Answer {
    send(calls, HttpRequest { tls: Some(tls), ..post("https://payments/debit", "{}") }).await
}

#[tokio::test]
async fn a_certificate_of_a_known_authority_for_the_host_is_good() {
    let authority = Authority::new();
    let (calls, world) = calls();
    world.set("ca", "ca.crt", authority.pem());
    for (alpn, version) in [(&[][..], "\"1.1\""), (&["http/1.1"], "\"1.1\""), (&["h2", "http/1.1"], "\"2\"")]
    {
        let server = serve(&authority, "payments", None, alpn).await;
        world.place("payments", server.address);
        assert_eq!(part(&success(call(&calls, full()).await), "body"), version);
    }
}

#[tokio::test]
async fn another_authority_or_another_host_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (calls, world) = calls();
    let server = serve(&authority, "shop", None, &[]).await;
    world.place("payments", server.address);

    world.set("ca", "ca.crt", other.pem());
    for mode in [TlsMode::VerifyFull, TlsMode::VerifyCA] {
        let reason = unanswered(call(&calls, ClientTls { mode, ..full() }).await);
        assert_has(&reason, &["POST https://payments/debit: at 127.0.0.1:", "UnknownIssuer"]);
    }
    // The system's authorities do not know it either, or there are none.
    let system = HttpRequest { tls: None, ..post("https://payments/debit", "{}") };
    unanswered(send(&calls, system).await);

    world.set("ca", "ca.crt", authority.pem());
    assert_has(&unanswered(call(&calls, full()).await), &["not valid for name"]);
    success(call(&calls, ClientTls { mode: TlsMode::VerifyCA, ..full() }).await);
    success(call(&calls, ClientTls { server_name: Some("shop".into()), ..full() }).await);
    let no_name = ClientTls { server_name: Some("no name".into()), ..full() };
    assert_has(&failure(call(&calls, no_name).await), &["tls.serverName \"no name\""]);
}

#[tokio::test]
async fn a_certificate_is_shown_to_who_asks_for_it() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (calls, world) = calls();
    let server = serve(&authority, "payments", Some(&clients), &[]).await;
    world.place("payments", server.address);
    world.set("ca", "ca.crt", authority.pem());
    let shown = || ClientTls { client_cert_secret_ref: Some(LocalRef { name: "saga-tls".into() }), ..full() };

    unanswered(call(&calls, full()).await);
    assert_has(&unanswered(call(&calls, shown()).await), &["TLS is not complete", "tls.crt", "saga-tls"]);
    // Of another authority; then, renewed, of the right one.
    authority.issue_to(&world, "saga-tls");
    unanswered(call(&calls, shown()).await);
    clients.issue_to(&world, "saga-tls");
    success(call(&calls, shown()).await);

    world.set("saga-tls", "tls.key", "-----BEGIN SECRET WORDS-----");
    let reason = unanswered(call(&calls, shown()).await);
    assert_has(&reason, &["tls.key", "no private key in PEM"]);
    assert!(!reason.contains("SECRET WORDS"), "{reason}");
    let (_, stranger) = clients.issue("x");
    world.set("saga-tls", "tls.key", stranger.serialize_pem());
    assert_has(&unanswered(call(&calls, shown()).await), &["the client's certificate cannot be used"]);
}

#[tokio::test]
async fn authorities_that_are_renewed_count_at_once() {
    let (old, new) = (Authority::new(), Authority::new());
    let (calls, world) = calls();
    let server = serve(&new, "payments", None, &[]).await;
    world.place("payments", server.address);

    assert_has(&unanswered(call(&calls, full()).await), &["ca.crt"]);
    world.set("ca", "ca.crt", "no certificate");
    assert_has(&unanswered(call(&calls, full()).await), &["tls.caRef holds no certificate"]);
    world.set("ca", "ca.crt", old.pem());
    unanswered(call(&calls, full()).await);
    world.set("ca", "ca.crt", old.pem() + &new.pem());
    success(call(&calls, full()).await);
    // What is no longer trusted is no longer called, though its connection was open.
    world.set("ca", "ca.crt", old.pem());
    unanswered(call(&calls, full()).await);
}

#[tokio::test]
async fn plain_text_is_spoken_to_no_one_who_expects_tls_and_the_other_way_round() {
    let authority = Authority::new();
    let (calls, world) = calls();
    world.set("ca", "ca.crt", authority.pem());
    let server = serve(&authority, "payments", None, &[]).await;
    unanswered(send(&calls, post(format!("http://{}/", server.address), "{}")).await);
    let plain = Server::start(Router::new()).await;
    world.place("payments", plain.address);
    unanswered(call(&calls, full()).await);
}

#[tokio::test]
async fn grpc_is_protected_as_well() {
    let authority = Authority::new();
    let (calls, world) = calls();
    let server = serve(&authority, "bank", None, &["h2"]).await;
    world.place("bank", server.address);
    world.set("ca", "ca.crt", authority.pem());
    let request = |tls| GrpcRequest {
        address: "bank:443".into(),
        method: "bank.v1.Accounts/Debit".into(),
        message: Json::parse("{}").unwrap(),
        descriptor: None,
        tls,
    };
    // It is reached, and is no gRPC server: who is not reached says so in another way.
    let reason = unanswered(crate::call_grpc::send(&calls, request(Some(full()))).await);
    assert!(!reason.contains("certificate") && !reason.contains("refused"), "{reason}");
    world.set("ca", "ca.crt", Authority::new().pem());
    assert_has(&unanswered(crate::call_grpc::send(&calls, request(Some(full()))).await), &["UnknownIssuer"]);
    unanswered(crate::call_grpc::send(&calls, request(None)).await);
}
