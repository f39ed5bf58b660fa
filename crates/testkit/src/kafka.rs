//! A real Apache Kafka broker in a folder of its own, on the loopback address: one node that is its own controller (KRaft). Settings of flushing
//! are Kafka's own: it acknowledges what the system has, and does not wait for the disk.
//!
//! ```text
//! test ──shared()──▶ Kafka ──▶ java kafka.Kafka, in a process of its own
//!      ──topic()───▶ a name that nobody else has
//! ```
//!
//! The jars are those of `tools/kafka/pom.xml`. `cargo xtask test` fetches them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tempfile::TempDir;
use uuid::Uuid;

use crate::server_process::{ServerProcess, dies_with_us, free_ports, shared};
use crate::tools;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_mins(2);
/// What the broker says when it has started.
const STARTED: &str = "Kafka Server started";
/// Clusters are told apart by this; these never meet.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";
/// The user of the listener that asks for one, and the password.
pub const USER: (&str, &str) = ("headwater", "correct-horse");

/// A broker. It ends with its last handle, and with this process.
pub struct Kafka {
    folder: TempDir,
    libs: PathBuf,
    port: u16,
    sasl_port: u16,
    server: Mutex<Option<ServerProcess>>,
}

/// A message, with what is in its headers. Those hold no comma here.
#[derive(Debug)]
pub struct Message {
    /// The partition of the topic.
    pub partition: u16,
    /// Its key.
    pub key: String,
    /// What it says.
    pub value: String,
    headers: BTreeMap<String, String>,
}

impl Message {
    /// From a line of partition, headers, key and value.
    fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [partition, headers, key, value] = fields[..] else { bail!("{line}") };
        let partition = partition.strip_prefix("Partition:").context("a partition")?.parse()?;
        let headers = headers.split(',').filter_map(|header| header.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Ok(Self { partition, key: key.to_owned(), value: value.to_owned(), headers })
    }

    /// A header.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn header(&self, name: &str) -> Result<&str> {
        self.headers.get(name).map(String::as_str).with_context(|| format!("no {name}: {self:?}"))
    }
}

static SHARED: Mutex<Weak<Kafka>> = Mutex::new(Weak::new());

impl Kafka {
    /// The broker that the tests of this process share; started when there is none.
    ///
    /// # Errors
    /// When there is no Kafka on this machine, or it does not start.
    pub fn shared() -> Result<Arc<Self>> {
        shared(&SHARED, Self::start)
    }

    /// A broker of one's own, to be killed and restarted.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn start() -> Result<Self> {
        Self::start_with(|settings| (settings, Vec::new()))
    }

    /// The same, that listens at a further port, for TLS and SCRAM: [`USER`] is known there, and clients show a certificate of the authority
    /// `clients`. All in PEM. Gives where that is.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn start_with_tls(certificate: &str, key: &str, clients: &str) -> Result<(Self, String)> {
        let [port] = free_ports()?;
        let (user, password) = USER;
        // A value that stands over several lines.
        let lines = |pem: &str| pem.trim().lines().collect::<Vec<_>>().join("\\n");
        let more = format!(
            "listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-256
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.certificate.chain={}
ssl.keystore.key={}
ssl.truststore.type=PEM
ssl.truststore.certificates={}
listener.name.sasl_ssl.ssl.client.auth=required
",
            lines(certificate),
            lines(key),
            lines(clients)
        );
        let scram = format!("SCRAM-SHA-256=[name={user},password={password}]");
        let address = format!("127.0.0.1:{port}");
        let server = Self::start_with(|settings| {
            let settings = with_listener(&settings, "SASL_SSL:SASL_SSL", port, &address);
            (settings + &more, vec!["--add-scram".to_owned(), scram])
        })?;
        Ok((server, address))
    }

    /// The same, that listens at a further port, for clients that come by another way, such as a proxy: they are told that it is at `known_as`,
    /// `host:port`. Gives the port.
    ///
    /// # Errors
    /// As [`shared`](Self::shared).
    pub fn start_known_as(known_as: &str) -> Result<(Self, u16)> {
        let [port] = free_ports()?;
        let listens = |settings: String| with_listener(&settings, "ELSEWHERE:PLAINTEXT", port, known_as);
        Ok((Self::start_with(|settings| (listens(settings), Vec::new()))?, port))
    }

    /// `change` gives what the settings become, and further arguments of the formatting.
    fn start_with(change: impl FnOnce(String) -> (String, Vec<String>)) -> Result<Self> {
        let libs = tools::kafka()?.join("libs");
        ensure!(libs.is_dir(), "there is no Kafka at {}: `cargo xtask test` fetches it", libs.display());
        let folder = tempfile::tempdir()?;
        let [port, sasl_port, controller] = free_ports()?;
        std::fs::write(folder.path().join("log4j2.properties"), LOGGING)?;
        let settings = settings(&folder.path().join("data"), port, sasl_port, controller);
        let (settings, arguments) = change(settings);
        std::fs::write(folder.path().join("server.properties"), settings)?;
        let server = Self { folder, libs, port, sasl_port, server: Mutex::new(None) };
        let file = server.folder.path().join("server.properties");
        let file = file.to_str().context("a temporary folder whose name is text")?;
        let format = ["format", "-t", CLUSTER_ID, "-c", file].into_iter();
        let format: Vec<&str> = format.chain(arguments.iter().map(String::as_str)).collect();
        server.tool("kafka.tools.StorageTool", &format)?;
        server.resume()?;
        Ok(server)
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it listens and asks for [`USER`], by SASL/PLAIN.
    pub fn sasl_address(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_port)
    }

    /// The name of a topic that no other test has.
    pub fn topic() -> String {
        format!("test-{}", Uuid::new_v4().simple())
    }

    /// What one of Kafka's own programs prints.
    ///
    /// # Errors
    /// When it fails; with what it says.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<String> {
        let mut java = Command::new("java");
        java.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        java.arg("-cp").arg(self.libs.join("*")).arg(class).args(arguments).stdin(Stdio::null());
        let output = java.output().context("running java")?;
        ensure!(
            output.status.success(),
            "{class} {arguments:?} failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// All that stands in a topic, in order of each partition, as Kafka's own console consumer prints it. It ends when nothing has come for a while,
    /// since how many repeats there are is not known.
    ///
    /// # Errors
    /// When what it prints has another form.
    pub fn messages(&self, topic: &str) -> Result<Vec<Message>> {
        let address = self.address();
        let mut arguments = vec!["--bootstrap-server", &address, "--topic", topic, "--from-beginning"];
        arguments.extend(["--timeout-ms", "10000"]);
        for print in ["print.partition=true", "print.headers=true", "print.key=true"] {
            arguments.extend(["--property", print]);
        }
        let printed = self.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments)?;
        // When nothing has come for a while it ends with an error, on standard output too.
        printed.lines().filter(|line| line.starts_with("Partition:")).map(Message::parse).collect()
    }

    /// Ends it at once, by SIGKILL.
    ///
    /// # Errors
    /// When it cannot be stopped.
    pub fn kill(&self) -> Result<()> {
        let running = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        running.map_or(Ok(()), ServerProcess::end)
    }

    /// Starts it again, over the same data.
    ///
    /// # Errors
    /// When it does not start in time.
    pub fn resume(&self) -> Result<()> {
        let folder = self.folder.path();
        let log = folder.join("kafka.log");
        let file = std::fs::File::create(&log)?;
        let mut command = dies_with_us(Path::new("java"), "KILL", &[]);
        command
            .args(["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"])
            .arg(format!("-Dlog4j2.configurationFile={}", folder.join("log4j2.properties").display()))
            .arg("-cp")
            .arg(self.libs.join("*"))
            .arg("kafka.Kafka")
            .arg(folder.join("server.properties"))
            .current_dir(folder)
            .stdout(file.try_clone()?)
            .stderr(file);
        let server = ServerProcess::start("kafka", command, Signal::KILL)?;
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
        let began = Instant::now();
        loop {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            if said.contains(STARTED) {
                return Ok(());
            }
            let waits = began.elapsed() < PATIENCE && !said.contains("Exiting Kafka");
            ensure!(waits, "Kafka does not start; it says:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("stopping Kafka: {error:#}");
        }
    }
}

/// The settings with a further listener, `NAME:PROTOCOL`, whose clients are told that the broker is at `known_as`.
fn with_listener(settings: &str, listener: &str, port: u16, known_as: &str) -> String {
    let name = listener.split(':').next().unwrap_or_default();
    settings
        .replace(",CONTROLLER://", &format!(",{name}://127.0.0.1:{port},CONTROLLER://"))
        .replace("\nlistener.security", &format!(",{name}://{known_as}\nlistener.security"))
        .replace("CONTROLLER:PLAINTEXT", &format!("{listener},CONTROLLER:PLAINTEXT"))
}

fn settings(data: &Path, port: u16, sasl_port: u16, controller: u16) -> String {
    let (user, password) = USER;
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl_port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";
log.dirs={}
log.retention.check.interval.ms=1000
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
",
        data.display()
    )
}

const LOGGING: &str = "rootLogger.level=INFO
rootLogger.appenderRef.out.ref=OUT
appender.out.type=Console
appender.out.name=OUT
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ABSOLUTE} %p %c{1}: %m%n
";
