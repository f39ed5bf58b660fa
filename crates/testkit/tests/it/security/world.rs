//! Programs that are served securely, and what tests show to them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use headwater_api::{Client, CredentialFiles, Credentials};
use headwater_core::{Append, EventType, Expected, NewEvent, StreamId};
use headwater_testkit::counters;
use headwater_testkit::dev::write;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::process::{PATIENCE, Process};
use headwater_testkit::proofs::{Authority, Issuer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

pub(super) const ISSUER: &str = "https://kubernetes.default.svc";
pub(super) const ADA: &str = "ada-0123456789-0123456789-0123";
pub(super) const OTHER: &str = "other-0123456789-0123456789-01";
/// The Service's name, which no address of the test has.
pub(super) const SERVICE: &str = "counters-eventstore.shop.svc";

pub(super) const ACCESS: &str = "
  access:
  - {subject: {type: ServiceAccount, name: orders}, verbs: [Append, Read, Query]}
  - {subject: {type: ServiceAccount, name: reader}, verbs: [Read]}
  - {subject: {type: CertificateName, name: writer}, verbs: [Append]}
  - {subject: {type: CertificateName, name: 'spiffe://shop/reader'}, verbs: [Read]}
  - {subject: {type: Token, name: ada}, verbs: [Append, Read, Query]}
";

/// Manifests, certificates, tokens and keys in a folder.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) authority: Authority,
    pub(super) issuer: Issuer,
}

impl World {
    /// `access` is added to both resources.
    pub(super) fn new(access: &str) -> Result<Self> {
        let world = Self {
            folder: tempfile::tempdir()?,
            authority: Authority::new()?,
            issuer: Issuer::new(ISSUER, "key-1")?,
        };
        let manifests = world.path("manifests");
        std::fs::create_dir(&manifests)?;
        counters::write_manifests(&manifests)?;
        for (file, spec) in
            [("eventstream.yaml", "spec:\n  partitions"), ("projection.yaml", "spec:\n  streamRef")]
        {
            let text = std::fs::read_to_string(manifests.join(file))?;
            let (first, second) = spec.split_once('\n').context("two lines")?;
            ensure!(text.contains(spec), "{text}");
            write(&manifests, file, &text.replacen(spec, &format!("{first}{access}\n{second}"), 1))?;
        }
        world.authority.mount(&world.path("tls"), SERVICE, &["127.0.0.1", SERVICE])?;
        write(world.folder.path(), "jwks.json", &world.issuer.jwks())?;
        write(world.folder.path(), "tokens.yaml", &format!("ada: {ADA}\n"))?;
        Ok(world)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Puts `text` into a file of this name.
    pub(super) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        write(self.folder.path(), name, text)?;
        Ok(self.path(name))
    }

    /// How a process is told to serve, and to log all that it can.
    pub(super) fn served(&self) -> Vec<String> {
        let words = [
            ("--tls-cert", self.text("tls/tls.crt")),
            ("--tls-key", self.text("tls/tls.key")),
            ("--tls-client-ca", self.text("tls/ca.crt")),
            ("--bearer-tokens", self.text("tokens.yaml")),
            ("--jwt-issuer", ISSUER.to_owned()),
            ("--jwt-jwks", self.text("jwks.json")),
            ("--namespace", "shop".to_owned()),
            ("--log", "debug".to_owned()),
        ];
        words.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }

    /// How a process is told whom it may trust, and which token to send.
    pub(super) fn calling(&self, token: &str) -> Vec<String> {
        ["--ca".to_owned(), self.text("tls/ca.crt"), "--token-file".to_owned(), self.text(token)].into()
    }

    pub(super) async fn store(&self) -> Result<EventStore> {
        EventStore::secured(&self.path("manifests"), &self.path("events"), &self.served()).await
    }

    /// A request by curl, which trusts our authority.
    pub(super) async fn curl(&self, url: &str, more: &[&str]) -> Result<Answer> {
        let ca = self.text("tls/ca.crt");
        curl(&["--cacert", &ca, url].into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).await
    }

    /// An append by curl, with these arguments.
    pub(super) async fn append(&self, store: &EventStore, more: &[&str]) -> Result<Answer> {
        let url = format!("{}/v1/streams/counter-1/events", store.url());
        let body =
            json!({"expected": "any", "events": [{"type": "Added", "data": {"amount": 1}}]}).to_string();
        let json = ["--header", "content-type: application/json", "--data", &body];
        self.curl(&url, &json.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).await
    }

    /// A client over TLS that shows the token in this file.
    pub(super) fn client(&self, url: &str, token: Option<PathBuf>) -> Result<Client> {
        let files =
            CredentialFiles { token, ca: Some(self.path("tls/ca.crt")), ..CredentialFiles::default() };
        Ok(Client::with_credentials(url, &Credentials::new(files)?)?)
    }
}

/// What curl has got.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// That it is a problem of this status whose detail has `part`.
    #[track_caller]
    pub(super) fn refused(&self, status: u16, part: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).expect("a problem in JSON");
        assert!(self.head.contains("application/problem+json"), "{self:?}");
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.contains(part)),
            "no {part:?} in {self:?}"
        );
        assert_eq!(self.head.to_lowercase().contains("www-authenticate: bearer"), status == 401, "{self:?}");
    }

    #[track_caller]
    pub(super) fn is(&self, status: u16) {
        assert_eq!(self.status, status, "{self:?}");
    }
}

/// A request by curl; an error when there is no answer at all.
pub(super) async fn curl(more: &[&str]) -> Result<Answer> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--include", "--max-time", "60"])
        .args(more)
        .output()
        .await
        .context("curl")?;
    let said = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    ensure!(output.status.success(), "curl {more:?}: {}", String::from_utf8_lossy(&output.stderr));
    let (head, body) = said.split_once("\n\n").with_context(|| format!("no answer in {said:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Answer { status: status.context("a status")?, head: head.to_owned(), body: body.to_owned() })
}

pub(super) fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

pub(super) fn one() -> Append {
    Append {
        stream_id: StreamId::new("counter-2").expect("a stream id"),
        expected: Expected::Any,
        events: vec![NewEvent::json(EventType::new("Added").expect("a type"), br#"{"amount":1}"#.to_vec())],
    }
}

/// Waits until `is` says so.
pub(super) async fn until(what: &str, mut is: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !is().await? {
        ensure!(began.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// That nothing that a process printed, at the level of debug, holds one of `secrets`.
pub(super) fn keeps(process: &Process, secrets: &[&str]) {
    let output = process.output();
    assert!(output.contains("DEBUG"), "nothing was logged at debug:\n{output}");
    for secret in secrets {
        // The signature of a token is what makes it one.
        let part = secret.rsplit('.').next().unwrap_or(secret);
        assert!(!output.contains(part), "{secret} was printed:\n{output}");
    }
}
