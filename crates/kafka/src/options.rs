use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use headwater_core::{Error, PartitionCount, Result};

/// Where the topic is, and how it is to be.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The brokers to begin with, as `host:port`.
    pub bootstrap_servers: Vec<String>,
    /// The topic.
    pub topic: String,
    /// The log's partitions; the topic must have as many.
    pub partitions: PartitionCount,
    /// Whether the topic is made.
    pub provision: Provision,
    /// How we prove who we are. `None`: by a certificate, or not at all.
    pub sasl: Option<Sasl>,
    /// `None`: plain text.
    pub tls: Option<Tls>,
}

/// Whether the topic is made.
#[derive(Debug, Clone)]
pub enum Provision {
    /// Made where it is not there, and its settings kept as they are described here.
    Create {
        /// Copies that Kafka keeps.
        replication_factor: u16,
        /// Settings by Kafka's names, such as `compression.type`; they come before our own.
        config: BTreeMap<String, String>,
        /// How much Kafka keeps.
        retention: Retention,
    },
    /// Only checked.
    Observe,
}

/// How much Kafka keeps of the topic. `None`: what the broker does by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// For how long, from when the log took an event.
    pub max_age: Option<Duration>,
    /// Bytes of the whole topic; each partition gets an equal part.
    pub max_bytes: Option<u64>,
}

/// A name and a password.
#[derive(Debug, Clone)]
pub struct Sasl {
    /// How the password is shown.
    pub mechanism: SaslMechanism,
    /// The user.
    pub username: String,
    /// Its password.
    pub password: Password,
}

/// How a password is shown to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// As it is.
    Plain,
    /// By challenge and response, with SHA-256. Needs the feature `tls`.
    ScramSha256,
    /// The same with SHA-512. Needs the feature `tls`.
    ScramSha512,
}

/// A secret that is not printed.
#[derive(Clone)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// TLS of the connections. Needs the feature `tls`.
#[derive(Debug, Clone)]
pub struct Tls {
    /// The authorities that are trusted, in PEM. `None`: those of the system.
    pub authorities: Option<String>,
    /// Whether the broker's certificate must be of the host that is connected to.
    pub verify_host: bool,
    /// What we show to the broker.
    pub identity: Option<Identity>,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate and those it leads to, in PEM.
    pub certificate: String,
    /// Its key, in PEM.
    pub key: Password,
}

impl KafkaOptions {
    /// What can be said without a broker.
    pub(crate) fn check(&self) -> Result<()> {
        if self.bootstrap_servers.iter().all(|server| server.trim().is_empty()) {
            return Err(Error::invalid("bootstrapServers", "name at least one broker, as host:port"));
        }
        let named = !self.topic.is_empty()
            && self.topic.len() <= 249
            && self.topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !named || matches!(self.topic.as_str(), "." | "..") {
            return Err(Error::invalid(
                "topic",
                format!(
                    "{:?} is no name of a topic: letters, digits, `.`, `_` and `-`, up to 249",
                    self.topic
                ),
            ));
        }
        if cfg!(not(feature = "tls")) {
            let missing = |field: &str, what: &str| {
                Error::invalid(
                    field,
                    format!("{what} is not part of this build: build with `--features kafka-tls`"),
                )
            };
            if self.tls.is_some() {
                return Err(missing("tls", "TLS"));
            }
            if self.sasl.as_ref().is_some_and(|sasl| sasl.mechanism != SaslMechanism::Plain) {
                return Err(missing("sasl.mechanism", "SCRAM"));
            }
        }
        let Provision::Create { replication_factor, config, retention } = &self.provision else {
            return Ok(());
        };
        if *replication_factor == 0 {
            return Err(Error::invalid("replicationFactor", "at least 1"));
        }
        if let Some(policy) = config.get("cleanup.policy")
            && policy != "delete"
        {
            return Err(Error::invalid(
                "config.cleanup.policy",
                format!(
                    "{policy:?} would remove events that have not been consumed; only `delete` is allowed"
                ),
            ));
        }
        if config.get("compression.type").is_some_and(|kind| kind == "zstd") {
            return Err(Error::invalid(
                "config.compression.type",
                "zstd is not part of this build, which could not read the topic: say producer, gzip, snappy or lz4",
            ));
        }
        for (given, name) in [
            (retention.max_age.is_some(), "retention.ms"),
            (retention.max_bytes.is_some(), "retention.bytes"),
        ] {
            if given && config.contains_key(name) {
                return Err(Error::invalid(
                    format!("config.{name}"),
                    "this is given by the retention too; leave out one of the two",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> KafkaOptions {
        KafkaOptions {
            bootstrap_servers: vec!["127.0.0.1:9092".into()],
            topic: "orders".into(),
            partitions: PartitionCount::ONE,
            provision: Provision::Create {
                replication_factor: 1,
                config: BTreeMap::new(),
                retention: Retention::default(),
            },
            sasl: None,
            tls: None,
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_the_field() {
        type Change = fn(&mut KafkaOptions);
        let check = |field: &str, change: Change| {
            let mut options = options();
            change(&mut options);
            match options.check() {
                Err(Error::Invalid { field: refused, .. }) => assert_eq!(refused, field),
                other => panic!("{field}: {other:?}"),
            }
        };
        options().check().unwrap();
        check("bootstrapServers", |options| options.bootstrap_servers = vec![String::new()]);
        check("topic", |options| options.topic = "a b".into());
        check("topic", |options| options.topic = "..".into());
        check("config.cleanup.policy", |options| {
            let config = [("cleanup.policy".to_owned(), "compact,delete".to_owned())].into();
            let retention = Retention::default();
            options.provision = Provision::Create { replication_factor: 1, config, retention };
        });
        check("config.compression.type", |options| {
            let config = [("compression.type".to_owned(), "zstd".to_owned())].into();
            let retention = Retention::default();
            options.provision = Provision::Create { replication_factor: 1, config, retention };
        });
        check("config.retention.ms", |options| {
            let config = [("retention.ms".to_owned(), "1".to_owned())].into();
            let retention = Retention { max_age: Some(Duration::from_secs(1)), max_bytes: None };
            options.provision = Provision::Create { replication_factor: 1, config, retention };
        });
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn what_this_build_cannot_do_is_refused() {
        let mut tls = options();
        tls.tls = Some(Tls { authorities: None, verify_host: true, identity: None });
        assert!(tls.check().unwrap_err().to_string().contains("--features kafka-tls"));
        let mut scram = options();
        scram.sasl = Some(Sasl {
            mechanism: SaslMechanism::ScramSha512,
            username: "u".into(),
            password: Password("p".into()),
        });
        assert!(scram.check().unwrap_err().to_string().contains("--features kafka-tls"));
    }

    #[test]
    fn passwords_are_not_printed() {
        assert!(!format!("{:?}", Password("hunter2".into())).contains("hunter2"));
    }
}
