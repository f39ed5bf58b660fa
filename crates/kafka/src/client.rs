//! What all clients of librdkafka have in common: settings, what they say, and what their failures mean.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use headwater_core::{BackendFault, Error, Result};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::options::{KafkaOptions, SaslMechanism};

/// How long a broker may take to answer what is asked while nothing is published.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The largest message: an event's data may have 1 MiB and its metadata 64 KiB, which is written twice at most, and there are the other headers.
pub(crate) const MAX_MESSAGE_BYTES: usize = 2_097_152;

/// A code, where there is one, and what is said with it.
type Complaint = (Option<RDKafkaErrorCode>, String);

/// Keeps what librdkafka last said of its connections: its error codes do not tell a refused connection from a wrong password.
#[derive(Debug, Clone, Default)]
pub(crate) struct Context {
    said: Arc<Mutex<Option<Complaint>>>,
}

impl Context {
    fn said(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        said.map(|(code, reason)| match code {
            Some(RDKafkaErrorCode::Authentication) => {
                format!("{reason}; {}", BackendFault::Credentials.words())
            }
            Some(RDKafkaErrorCode::SSL) => format!("{reason}; {}", BackendFault::Tls.words()),
            _ => reason,
        })
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all are down says nothing of why.
        let code = error.rdkafka_error_code();
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Context {}

/// The settings of every client.
pub(crate) fn config(options: &KafkaOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set_log_level(RDKafkaLogLevel::Info);
    let mut set = |name: &str, value: &str| {
        config.set(name, value);
    };
    set("client.id", "headwater");
    set("bootstrap.servers", &options.bootstrap_servers.join(","));
    // Brokers make topics that are asked for, with settings of their own, where the client does not decline.
    set("allow.auto.create.topics", "false");
    set("topic.metadata.propagation.max.ms", "5000");
    set("reconnect.backoff.max.ms", "1000");
    set("socket.keepalive.enable", "true");
    // We have metrics of our own; the broker need not collect them.
    set("enable.metrics.push", "false");
    set(
        "security.protocol",
        match (&options.sasl, &options.tls) {
            (None, None) => "plaintext",
            (None, Some(_)) => "ssl",
            (Some(_), None) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        },
    );
    if let Some(sasl) = &options.sasl {
        set(
            "sasl.mechanism",
            match sasl.mechanism {
                SaslMechanism::Plain => "PLAIN",
                SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
                SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            },
        );
        set("sasl.username", &sasl.username);
        set("sasl.password", &sasl.password.0);
    }
    if let Some(tls) = &options.tls {
        set("ssl.endpoint.identification.algorithm", if tls.verify_host { "https" } else { "none" });
        match &tls.authorities {
            Some(pem) => set("ssl.ca.pem", pem),
            None => set("ssl.ca.location", "probe"),
        }
        if let Some(identity) = &tls.identity {
            set("ssl.certificate.pem", &identity.certificate);
            set("ssl.key.pem", &identity.key.0);
        }
    }
    config
}

/// A client of the kind `T`.
pub(crate) fn create<T>(config: &ClientConfig, context: Context) -> Result<Held<T>>
where
    T: FromClientConfigAndContext<Context> + Send + Sync + 'static,
{
    config.create_with_context(context).map(Held::new).map_err(|error| match error {
        // The value may be a secret.
        KafkaError::ClientConfig(_, why, name, _) => {
            Error::failed_precondition(format!("Kafka's client refuses the setting {name}: {why}"))
        }
        other => Error::failed_precondition(format!("Kafka's client cannot be made: {other}")),
    })
}

/// A client, which is closed in a thread of its own, wherever this is dropped: that takes a while, and blocks.
pub(crate) struct Held<T: Send + Sync + 'static> {
    client: Arc<T>,
    // Dropped after the client: then the thread has the last handle.
    gone: Option<mpsc::Sender<()>>,
}

impl<T: Send + Sync + 'static> Held<T> {
    pub(crate) fn new(client: T) -> Self {
        Self { client: Arc::new(client), gone: None }
    }
}

impl<T: Send + Sync + 'static> Deref for Held<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.client
    }
}

impl<T: Send + Sync + 'static> Drop for Held<T> {
    fn drop(&mut self) {
        let client = Arc::clone(&self.client);
        let (gone, wait) = mpsc::channel();
        let close = move || {
            // Nothing is ever sent: an error means that the other handle is gone.
            let _ = wait.recv();
            drop(client);
        };
        // Where no thread can be had, it is closed here.
        if std::thread::Builder::new().name("kafka-close".to_owned()).spawn(close).is_ok() {
            self.gone = Some(gone);
        }
    }
}

/// Runs what blocks in a thread that is there for that.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)
}

/// What a failure of librdkafka means to the caller.
pub(crate) fn failed(doing: &str, error: &KafkaError, context: &Context) -> Error {
    match error.rdkafka_error_code() {
        Some(code) => failed_with(doing, code, context),
        None => Error::unavailable(format!("{doing}: {error}")),
    }
}

/// The same, of an error's code.
pub(crate) fn failed_with(doing: &str, code: RDKafkaErrorCode, context: &Context) -> Error {
    use RDKafkaErrorCode as Code;
    let refused = |remedy: &str| Error::failed_precondition(format!("{doing}: {code}; {remedy}"));
    match code {
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::DelegationTokenAuthorizationFailed => refused(
            "allow this user Describe, DescribeConfigs, Read and Write on the topic (and Create and AlterConfigs to provision it)",
        ),
        Code::MessageSizeTooLarge => refused("raise the topic's max.message.bytes to 2097152"),
        Code::InvalidTimestamp => refused(
            "events carry the time at which the log took them: raise the topic's message.timestamp.before.max.ms, and see that clocks agree",
        ),
        Code::InvalidTopic
        | Code::InvalidConfig
        | Code::InvalidPartitions
        | Code::PolicyViolation
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature => refused("correct the settings of the bus"),
        Code::NotImplemented => refused(
            "the topic holds messages that are compressed in a way that this build cannot read, such as zstd",
        ),
        // More brokers may be on their way.
        Code::InvalidReplicationFactor => Error::unavailable(format!(
            "{doing}: {code}; there are fewer brokers than copies are asked for: start them, or lower replicationFactor"
        )),
        _ => match context.said() {
            Some(said) => Error::unavailable(format!("{doing}: {code}; the last that was heard: {said}")),
            None => Error::unavailable(format!("{doing}: {code}")),
        },
    }
}
