//! The bus that carries an event stream: chosen by its manifest, and by what the process is told.
//!
//! ```text
//! spec.bus, Secrets ──┐
//! --bus URL ──────────┴─▶ BusPlace ──open, once the log is known──▶ a Bus
//! ```

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use headwater_bus::{Bus, CloudEvents, FeedStats, LiveReader, Removal};
use headwater_core::{Error, LogId, PartitionCount, Result};
use headwater_kafka::{KafkaBus, KafkaOptions, Password};
use headwater_log::LogDescriptor;
use headwater_nats::{Credentials, Made, NatsBus, NatsOptions, Provision};
use headwater_resources::EventStreamSpec;
use headwater_resources::event_stream::{self as declared, BusType, NatsStorage};
use headwater_runtime::Metrics;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use crate::chosen::text_in;
use crate::load::Loaded;
use crate::tls_files::TlsFiles;

/// What a process is told about the bus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum BusFlag {
    /// Nothing: it is as the manifest says.
    #[default]
    Manifest,
    /// There is to be none.
    None,
    /// The manifest's, but at this address.
    At(String),
}

impl FromStr for BusFlag {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "none" { Self::None } else { Self::At(text.to_owned()) })
    }
}

impl BusFlag {
    /// The kind of bus that the address is of, if one is given.
    ///
    /// # Errors
    /// `Invalid` for an address of none.
    pub(crate) fn kind(&self) -> Result<Option<BusType>> {
        let Self::At(url) = self else { return Ok(None) };
        match url.split_once("://").map(|(scheme, _)| scheme) {
            Some("nats" | "tls") => Ok(Some(BusType::Nats)),
            Some("kafka") => Ok(Some(BusType::Kafka)),
            _ => Err(Error::invalid(
                "bus",
                "it is no address of a bus: give nats://HOST:PORT or kafka://HOST:PORT, or say none",
            )),
        }
    }
}

/// Where a bus is, and what is to be there.
#[derive(Debug, Clone)]
pub(crate) enum BusPlace {
    Nats(NatsOptions),
    Kafka(KafkaOptions),
}

impl BusPlace {
    /// The bus of the event stream `name`, if it has one.
    ///
    /// # Errors
    /// `Invalid` for what makes no sense, or is not in the Secrets.
    pub(crate) fn choose(
        name: &str,
        spec: &EventStreamSpec,
        loaded: &Loaded,
        flag: &BusFlag,
    ) -> Result<Option<Self>> {
        if *flag == BusFlag::None {
            return Ok(None);
        }
        if let Some(kind) = flag.kind()?
            && kind != spec.bus.r#type
        {
            let told = match kind {
                BusType::Kafka => "Kafka",
                _ => "NATS",
            };
            return Err(Error::invalid(
                "bus",
                format!(
                    "it is the address of {told}, and the manifest of EventStream \"{name}\" says bus.type: {}; declare it there, or say --bus none",
                    type_name(spec.bus.r#type)
                ),
            ));
        }
        let is_moved = matches!(flag, BusFlag::At(_));
        // What is declared of one address is not shown to another.
        let tls = match &spec.bus.tls {
            Some(tls) if !is_moved => TlsFiles::read(tls, "bus.tls", loaded)?,
            _ => None,
        };
        let missing = |field: &str| Error::invalid(field, "it is needed for this bus.type: add it");
        let place = match spec.bus.r#type {
            BusType::None => return Ok(None),
            BusType::Nats => {
                let nats = spec.bus.nats.as_ref().ok_or_else(|| missing("bus.nats"))?;
                let tls = tls.map(|tls| nats_tls(&tls)).transpose()?;
                Self::Nats(NatsOptions { tls, ..nats_options(name, spec, nats, loaded, flag)? })
            }
            BusType::Kafka => {
                let kafka = spec.bus.kafka.as_ref().ok_or_else(|| missing("bus.kafka"))?;
                let tls = tls.map(kafka_tls).transpose()?;
                Self::Kafka(KafkaOptions { tls, ..kafka_options(name, spec, kafka, loaded, flag)? })
            }
        };
        // What is wrong with the options themselves is said now.
        let partitions = PartitionCount::new(spec.partitions)?;
        let nobody = LogDescriptor { log_id: LogId::generate(), partitions };
        place.open("", name, nobody)?;
        Ok(Some(place))
    }

    /// The bus for a log, which is the event stream `name` of `namespace`. It connects when it is first used.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn open(&self, namespace: &str, name: &str, log: LogDescriptor) -> Result<Arc<dyn Bus>> {
        let events = CloudEvents::new(namespace, name, log.log_id);
        match self {
            Self::Nats(options) => Ok(Arc::new(NatsBus::new(options.clone(), events, log.partitions)?)),
            Self::Kafka(options) => {
                let bus = KafkaBus::new(options.clone(), events);
                Ok(Arc::new(bus.map_err(|error| match error {
                    Error::Invalid { field, message } if field == "tls" => Error::invalid("bus.tls", message),
                    other => other.within("bus.kafka"),
                })?))
            }
        }
    }

    /// Deletes what was made there for the event stream `name` of `namespace`, and holds nothing but this log's.
    ///
    /// # Errors
    /// As the bus.
    pub(crate) async fn remove(&self, namespace: &str, name: &str, log: LogDescriptor) -> Result<Removal> {
        let events = CloudEvents::new(namespace, name, log.log_id);
        match self {
            Self::Nats(options) => NatsBus::new(options.clone(), events, log.partitions)?.remove().await,
            Self::Kafka(options) => KafkaBus::new(options.clone(), events)?.remove().await,
        }
    }

    /// Which broker it is, as traces say it.
    pub(crate) const fn system(&self) -> &'static str {
        match self {
            Self::Nats(_) => "nats",
            Self::Kafka(_) => "kafka",
        }
    }

    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Nats(options) => format!("NATS, JetStream stream {}", options.stream_name),
            Self::Kafka(options) => format!("Kafka, topic {}", options.topic),
        }
    }
}

/// What a bus has brought, read whenever metrics are asked for. Clones are of one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Brought(Arc<Mutex<Option<Arc<LiveReader>>>>);

impl Brought {
    /// Has `metrics` show it: `headwater_feed_…`.
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let brought = Self::default();
        metrics.register_collector(Box::new(brought.clone()));
        brought
    }

    /// From now on it is this one's.
    pub(crate) fn by(&self, live: Arc<LiveReader>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(live);
    }
}

impl Collector for Brought {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let live = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let stats = live.map_or_else(FeedStats::default, |live| live.stats());
        for (name, help, value) in [
            ("feed_from_bus", "Events that the bus brought", stats.from_bus),
            ("feed_from_log", "Events that the bus left out, read from the log", stats.from_log),
            ("feed_repeats", "Messages that came again, and were dropped", stats.repeats),
            ("feed_holes", "Holes in what the bus delivered", stats.holes),
            ("feed_failures", "Failures of the bus", stats.failures),
        ] {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

fn type_name(kind: BusType) -> &'static str {
    match kind {
        BusType::None => "None",
        BusType::Nats => "NATS",
        BusType::Kafka => "Kafka",
    }
}

fn nats_options(
    name: &str,
    spec: &EventStreamSpec,
    nats: &declared::Nats,
    loaded: &Loaded,
    flag: &BusFlag,
) -> Result<NatsOptions> {
    let is_moved = matches!(flag, BusFlag::At(_));
    let retention = spec.bus.retention.clone().unwrap_or_default();
    let credentials = match &nats.credentials_secret_ref {
        Some(key) if !is_moved => {
            Some(Credentials(text_in(key, "bus.nats.credentialsSecretRef", loaded, "--bus URL")?))
        }
        _ => None,
    };
    Ok(NatsOptions {
        servers: match flag {
            BusFlag::At(url) => vec![url.clone()],
            _ => nats.servers.clone(),
        },
        stream_name: nats.stream_name.clone().unwrap_or_else(|| name.to_uppercase()),
        subject: nats.subject.clone(),
        event_stream: name.to_owned(),
        event_types: spec.event_types.iter().map(|known| known.name.clone()).collect(),
        provision: match spec.bus.provision {
            declared::Provision::Observe => Provision::Observe,
            declared::Provision::Create => Provision::Create(Made {
                // The one server of a laptop keeps one copy.
                replicas: if is_moved { 1 } else { nats.replicas },
                in_memory: nats.storage == NatsStorage::Memory,
                max_age: retention.max_age.map(headwater_resources::shared::Duration::get),
                max_bytes: retention.max_bytes.as_ref().map(bytes).transpose()?,
            }),
        },
        credentials,
        tls: None,
    })
}

fn nats_tls(files: &TlsFiles) -> Result<headwater_nats::Tls> {
    let identity = files.identity.as_ref().map(|(certificate, key)| (&certificate[..], &key[..]));
    let config = headwater_api::tls::configuration(files.host, files.ca.as_deref(), identity);
    config
        .map(|config| headwater_nats::Tls(Arc::new(config)))
        .map_err(|fault| Error::invalid("bus.tls", fault))
}

fn kafka_tls(files: TlsFiles) -> Result<headwater_kafka::Tls> {
    let text = |pem: Vec<u8>| {
        String::from_utf8(pem).map_err(|_| Error::invalid("bus.tls", "what it names is not PEM"))
    };
    let identity = files.identity.map(|(certificate, key)| {
        Ok::<_, Error>(headwater_kafka::Identity {
            certificate: text(certificate)?,
            key: Password(text(key)?),
        })
    });
    Ok(headwater_kafka::Tls {
        authorities: files.ca.map(text).transpose()?,
        verify_host: files.host,
        identity: identity.transpose()?,
    })
}

fn kafka_options(
    name: &str,
    spec: &EventStreamSpec,
    kafka: &declared::Kafka,
    loaded: &Loaded,
    flag: &BusFlag,
) -> Result<KafkaOptions> {
    let retention = spec.bus.retention.clone().unwrap_or_default();
    let text = |key, field| text_in(key, field, loaded, "--bus URL");
    let sasl = match &kafka.sasl {
        Some(sasl) if *flag == BusFlag::Manifest => Some(headwater_kafka::Sasl {
            mechanism: match sasl.mechanism {
                declared::SaslMechanism::Plain => headwater_kafka::SaslMechanism::Plain,
                declared::SaslMechanism::ScramSha256 => headwater_kafka::SaslMechanism::ScramSha256,
                declared::SaslMechanism::ScramSha512 => headwater_kafka::SaslMechanism::ScramSha512,
            },
            username: text(&sasl.username_secret_ref, "bus.kafka.sasl.usernameSecretRef")?.trim().to_owned(),
            password: Password(text(&sasl.password_secret_ref, "bus.kafka.sasl.passwordSecretRef")?),
        }),
        _ => None,
    };
    Ok(KafkaOptions {
        bootstrap_servers: match flag {
            BusFlag::At(url) => url.trim_start_matches("kafka://").split(',').map(str::to_owned).collect(),
            _ => kafka.bootstrap_servers.clone(),
        },
        topic: kafka.topic.clone().unwrap_or_else(|| name.to_owned()),
        partitions: PartitionCount::new(spec.partitions)?,
        provision: match spec.bus.provision {
            declared::Provision::Observe => headwater_kafka::Provision::Observe,
            declared::Provision::Create => headwater_kafka::Provision::Create {
                replication_factor: match flag {
                    BusFlag::Manifest => u16::try_from(kafka.replication_factor).unwrap_or(u16::MAX),
                    _ => 1,
                },
                config: kafka.config.iter().map(|it| (it.name.clone(), it.value.clone())).collect(),
                retention: headwater_kafka::Retention {
                    max_age: retention.max_age.map(headwater_resources::shared::Duration::get),
                    max_bytes: retention.max_bytes.as_ref().map(bytes).transpose()?,
                },
            },
        },
        sasl,
        tls: None,
    })
}

/// What a quantity of bytes is, such as 10Gi.
fn bytes(quantity: &Quantity) -> Result<u64> {
    const UNITS: [(&str, u64); 10] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("Pi", 1 << 50),
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
        ("P", 1_000_000_000_000_000),
    ];
    let text = quantity.0.as_str();
    let (digits, unit) =
        UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes))).unwrap_or((text, 1));
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).ok_or_else(|| {
        Error::invalid(
            "bus.retention.maxBytes",
            format!("\"{text}\" is no number of bytes that can be kept; write it as 10Gi"),
        )
    })
}

#[cfg(test)]
mod tests {
    use headwater_resources::manifest::{read_texts, specs};

    use super::*;

    fn loaded(bus: &str, more: &str) -> (EventStreamSpec, Loaded) {
        let text = format!(
            "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {{name: orders}}\nspec: {{bus: {bus}}}\n{more}"
        );
        // Some are what `validate` refuses: whoever gets past it is refused here.
        let manifests = read_texts([("test.yaml", text.as_str())]);
        let spec = specs(&manifests.event_streams).remove("orders").unwrap();
        (spec, Loaded { manifests, dev_file: headwater_resources::manifest::DevFile::default() })
    }

    #[track_caller]
    fn refused(bus: &str, flag: &str, field: &str, part: &str) {
        check(bus, &flag.parse().unwrap(), field, part);
    }

    #[track_caller]
    fn refused_as_it_is(bus: &str, field: &str, part: &str) {
        check(bus, &BusFlag::Manifest, field, part);
    }

    #[track_caller]
    fn check(bus: &str, flag: &BusFlag, field: &str, part: &str) {
        let (spec, loaded) = loaded(bus, "");
        match BusPlace::choose("orders", &spec, &loaded, flag) {
            Err(Error::Invalid { field: wrong, message }) => {
                assert_eq!(wrong, field);
                assert!(message.contains(part), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    fn nats(place: Result<Option<BusPlace>>) -> NatsOptions {
        match place {
            Ok(Some(BusPlace::Nats(options))) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_topic_is_made_as_the_manifest_says() {
        let (spec, loaded) = loaded(
            "{type: Kafka, kafka: {bootstrapServers: ['k1:9092', 'k2:9092'], config: [{name: compression.type, value: gzip}], sasl: {mechanism: PLAIN, usernameSecretRef: {name: k, key: u}, passwordSecretRef: {name: k, key: p}}}}",
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: {u: user, p: secret}\n",
        );
        let Ok(Some(BusPlace::Kafka(options))) =
            BusPlace::choose("orders", &spec, &loaded, &BusFlag::Manifest)
        else {
            panic!("no Kafka");
        };
        assert_eq!(options.bootstrap_servers, ["k1:9092", "k2:9092"]);
        assert_eq!(options.topic, "orders");
        let headwater_kafka::Provision::Create { replication_factor, config, .. } = &options.provision else {
            panic!("{options:?}");
        };
        assert_eq!((*replication_factor, config["compression.type"].as_str()), (3, "gzip"));
        assert_eq!(options.sasl.as_ref().map(|sasl| sasl.password.0.as_str()), Some("secret"));
        assert!(!format!("{options:?}").contains("secret"));

        let moved = BusFlag::At("kafka://127.0.0.1:1,127.0.0.1:2".to_owned());
        let Ok(Some(BusPlace::Kafka(options))) = BusPlace::choose("orders", &spec, &loaded, &moved) else {
            panic!("no Kafka");
        };
        assert_eq!(options.bootstrap_servers, ["127.0.0.1:1", "127.0.0.1:2"]);
        assert!(options.sasl.is_none(), "another broker's are not shown to it");
    }

    #[test]
    fn the_manifest_says_what_is_carried_where() {
        let (spec, loaded) = loaded(
            "{type: NATS, nats: {servers: ['nats://nats:4222'], replicas: 3, storage: Memory, credentialsSecretRef: {name: nats, key: creds}}, retention: {maxAge: 2h, maxBytes: 10Gi}}",
            "---\napiVersion: v1\nkind: Secret\nmetadata: {name: nats}\nstringData: {creds: secret}\n",
        );
        let options = nats(BusPlace::choose("orders", &spec, &loaded, &BusFlag::Manifest));
        assert_eq!(options.servers, ["nats://nats:4222"]);
        assert_eq!(
            (options.stream_name.as_str(), options.subject.as_str()),
            ("ORDERS", "hw.{stream}.{partition}.{type}")
        );
        let made = Made {
            replicas: 3,
            in_memory: true,
            max_age: Some(std::time::Duration::from_hours(2)),
            max_bytes: Some(10 << 30),
        };
        assert_eq!(options.provision, Provision::Create(made.clone()));
        assert_eq!(options.credentials.map(|it| it.0).as_deref(), Some("secret"));

        let moved = "nats://127.0.0.1:4".parse().unwrap();
        let options = nats(BusPlace::choose("orders", &spec, &loaded, &moved));
        assert_eq!(options.servers, ["nats://127.0.0.1:4"]);
        assert_eq!(options.provision, Provision::Create(Made { replicas: 1, ..made }));
        assert!(options.credentials.is_none(), "another server's are not shown to it");
        assert!(BusPlace::choose("orders", &spec, &loaded, &"none".parse().unwrap()).unwrap().is_none());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_field() {
        let nats = "{type: NATS, nats: {servers: ['nats://nats:4222']}}";
        refused(nats, "http://x", "bus", "nats://HOST:PORT");
        refused(nats, "kafka://x:1", "bus", "says bus.type: NATS");
        refused("{type: None}", "nats://x", "bus", "says bus.type: None");
        refused(
            "{type: NATS, nats: {servers: ['nats://nats:1']}, tls: {}}",
            "nats",
            "bus",
            "kafka://HOST:PORT",
        );
        refused_as_it_is(
            "{type: NATS, nats: {servers: ['nats://u:pw@[x']}}",
            "bus.nats.servers",
            "nats://HOST:PORT",
        );
        refused_as_it_is(
            "{type: NATS, nats: {servers: ['nats://nats:1']}, tls: {caRef: {kind: Secret, name: no, key: ca.crt}}}",
            "bus.tls.caRef",
            "there is no Secret \"no\"",
        );
        refused_as_it_is(
            "{type: NATS, nats: {servers: ['nats://nats:1']}, tls: {serverName: other}}",
            "bus.tls.serverName",
            "leave serverName out",
        );
        let scram = "{type: Kafka, kafka: {bootstrapServers: ['k:9092'], sasl: {mechanism: SCRAM-SHA-256, usernameSecretRef: {name: k, key: u}, passwordSecretRef: {name: k, key: p}}}}";
        refused_as_it_is(scram, "bus.kafka.sasl.usernameSecretRef", "there is no Secret \"k\"");
        let compacted = "{type: Kafka, kafka: {bootstrapServers: ['k:9092'], config: [{name: cleanup.policy, value: compact}]}}";
        refused_as_it_is(compacted, "bus.kafka.config.cleanup.policy", "only `delete`");
    }
}
