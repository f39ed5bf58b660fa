//! The topic: made as it is described, or checked.

use std::collections::BTreeMap;

use headwater_core::{Error, Result};
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, ConfigEntry, ConfigSource, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::error::RDKafkaErrorCode;
use tokio::time::Instant;

use crate::client::{self, Context, Held, MAX_MESSAGE_BYTES, PATIENCE, failed, failed_with};
use crate::options::{KafkaOptions, Provision, Retention};
use crate::reader::{LOOK_AGAIN, Reader};
use crate::scan::Scan;

/// The setting that limits the size of messages.
const MAX_MESSAGE: &str = "max.message.bytes";

/// Sees to it that the topic is there, and as it must be. Answers the largest batch of messages that it takes, where that is known.
pub(crate) async fn provide(
    options: &KafkaOptions,
    reader: &Reader,
    scan: &Scan<'_>,
) -> Result<Option<usize>> {
    // Asked first, since it can tell why there is no answer.
    let there = reader.partitions().await?;
    let topic = Topic::new(options, reader)?;
    match (there, &options.provision) {
        (None, Provision::Observe) => {
            return Err(Error::failed_precondition(format!(
                "there is no topic {:?} at {}: make it with {} partitions, or set provision: Create",
                options.topic,
                topic.servers,
                options.partitions.get()
            )));
        }
        (None, Provision::Create { replication_factor, config, retention }) => {
            topic.create(*replication_factor, wanted(options, config, retention)).await?;
        }
        (Some(count), _) => {
            topic.check_partitions(count)?;
            // Before anything of another's is changed.
            scan.check_owner().await?;
        }
    }
    let entries = topic.settings().await?;
    let mut limit = setting(&entries, MAX_MESSAGE).and_then(|bytes| bytes.parse().ok());
    if let Provision::Create { config, retention, .. } = &options.provision {
        let wanted = wanted(options, config, retention);
        topic.adjust(&entries, &wanted).await?;
        limit = wanted.get(MAX_MESSAGE).and_then(|bytes| bytes.parse().ok());
    } else if let Some(policy) = setting(&entries, "cleanup.policy").filter(|policy| *policy != "delete") {
        return Err(Error::failed_precondition(format!(
            "the topic {:?} has cleanup.policy={policy}, which removes events that have not been consumed: set it to delete, or name another topic",
            options.topic
        )));
    }
    if setting(&entries, "compression.type") == Some("zstd") {
        return Err(Error::failed_precondition(format!(
            "the topic {:?} has compression.type=zstd, which this build cannot read: set producer, gzip, snappy or lz4",
            options.topic
        )));
    }
    Ok(limit)
}

/// Deletes the topic. Whether it was there.
pub(crate) async fn remove(options: &KafkaOptions, reader: &Reader) -> Result<bool> {
    let topic = Topic::new(options, reader)?;
    let doing = topic.doing("deleting");
    let deleted = topic.admin.delete_topics(&[topic.name()], &Topic::asking()).await;
    match deleted.map_err(|error| failed(&doing, &error, &topic.context))?.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => Ok(false),
        Some(Err((_, code))) => Err(failed_with(&doing, code, &topic.context)),
        None => Err(Error::unavailable(format!("{doing}: the broker answered nothing"))),
    }
}

/// The settings that the topic is to have.
fn wanted(
    options: &KafkaOptions,
    config: &BTreeMap<String, String>,
    retention: &Retention,
) -> BTreeMap<String, String> {
    let mut wanted = BTreeMap::from([
        ("cleanup.policy".to_owned(), "delete".to_owned()),
        (MAX_MESSAGE.to_owned(), MAX_MESSAGE_BYTES.to_string()),
    ]);
    if let Some(age) = retention.max_age {
        wanted.insert("retention.ms".to_owned(), age.as_millis().to_string());
    }
    if let Some(bytes) = retention.max_bytes {
        // Kafka's limit is of a partition.
        let each = (bytes / options.partitions.get() as u64).max(1);
        wanted.insert("retention.bytes".to_owned(), each.to_string());
    }
    wanted.extend(config.iter().map(|(name, value)| (name.clone(), value.clone())));
    wanted
}

fn setting<'a>(entries: &'a [ConfigEntry], name: &str) -> Option<&'a str> {
    entries.iter().find(|entry| entry.name == name)?.value.as_deref()
}

struct Topic<'a> {
    options: &'a KafkaOptions,
    reader: &'a Reader,
    admin: Held<AdminClient<Context>>,
    context: Context,
    servers: String,
}

impl<'a> Topic<'a> {
    fn new(options: &'a KafkaOptions, reader: &'a Reader) -> Result<Self> {
        let context = Context::default();
        let admin = client::create(&client::config(options), context.clone())?;
        Ok(Self { options, reader, admin, context, servers: options.bootstrap_servers.join(",") })
    }

    fn name(&self) -> &'a str {
        &self.options.topic
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} Kafka's topic {:?} at {}", self.name(), self.servers)
    }

    fn check_partitions(&self, count: usize) -> Result<()> {
        let wanted = self.options.partitions.get();
        if count == wanted {
            return Ok(());
        }
        Err(Error::failed_precondition(format!(
            "the topic {:?} at {} has {count} partitions, and the event stream {wanted}: name another topic, or make this one anew with {wanted}",
            self.name(),
            self.servers
        )))
    }

    fn asking() -> AdminOptions {
        AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
    }

    async fn create(&self, replication_factor: u16, settings: BTreeMap<String, String>) -> Result<()> {
        let doing = self.doing("making");
        let count = self.options.partitions.get() as i32;
        let replication = TopicReplication::Fixed(i32::from(replication_factor));
        let new = settings
            .iter()
            .fold(NewTopic::new(self.name(), count, replication), |new, (name, value)| new.set(name, value));
        let made = self.admin.create_topics([&new], &Self::asking()).await;
        for result in made.map_err(|error| failed(&doing, &error, &self.context))? {
            match result {
                Ok(_) => tracing::info!(topic = self.name(), partitions = count, "made Kafka's topic"),
                // Another process was faster.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(failed_with(&doing, code, &self.context)),
            }
        }
        let began = Instant::now();
        loop {
            if let Some(count) = self.reader.partitions().await? {
                return self.check_partitions(count);
            }
            if began.elapsed() > PATIENCE {
                return Err(Error::unavailable(format!("{doing}: the brokers do not tell of it yet")));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn settings(&self) -> Result<Vec<ConfigEntry>> {
        let doing = self.doing("reading the settings of");
        let began = Instant::now();
        loop {
            let resource = ResourceSpecifier::Topic(self.name());
            let described = self.admin.describe_configs([&resource], &Self::asking()).await;
            let described = described.map_err(|error| failed(&doing, &error, &self.context))?;
            match described.into_iter().next() {
                Some(Ok(resource)) => return Ok(resource.entries),
                // Of a topic that was just made, not every broker knows yet.
                Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Some(Err(code)) => return Err(failed_with(&doing, code, &self.context)),
                None => return Err(Error::unavailable(format!("{doing}: the broker answered nothing"))),
            }
        }
    }

    /// Gives the topic the settings that it lacks. What others have set besides stays: the request names all, and drops what it does not
    /// name.
    async fn adjust(&self, entries: &[ConfigEntry], wanted: &BTreeMap<String, String>) -> Result<()> {
        let differs = |(name, value): &(&String, &String)| setting(entries, name) != Some(value.as_str());
        let changes: Vec<_> = wanted.iter().filter(differs).collect();
        if changes.is_empty() {
            return Ok(());
        }
        let doing = self.doing("changing the settings of");
        let mut request = AlterConfig::new(ResourceSpecifier::Topic(self.name()));
        for entry in entries.iter().filter(|entry| entry.source == ConfigSource::DynamicTopic) {
            if let Some(value) = &entry.value {
                request = request.set(&entry.name, value);
            }
        }
        for (name, value) in &changes {
            request = request.set(name, value);
        }
        let altered = self.admin.alter_configs([&request], &Self::asking()).await;
        for result in altered.map_err(|error| failed(&doing, &error, &self.context))? {
            result.map_err(|(_, code)| failed_with(&doing, code, &self.context))?;
        }
        tracing::info!(topic = self.name(), ?changes, "changed the settings of Kafka's topic");
        Ok(())
    }
}
