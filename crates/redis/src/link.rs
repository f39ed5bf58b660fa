//! The connection to Redis: made when it is needed, shared by all, made again when it is lost.
//!
//! ```text
//! call ──▶ connection there? ──no──▶ connect, look at the server, again after a while ──▶ …
//!            └─yes─▶ EVALSHA ──NOSCRIPT──▶ SCRIPT LOAD ──▶ EVALSHA
//!                       └─ lost ──▶ a read is tried again; a write is not, since nobody knows whether it was done
//! ```

use std::time::Duration;

use headwater_core::{Error, Result, RetryPolicy};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::Mutex;

use crate::call::{Call, Reply};
use crate::server::{Durable, Server};

/// How a connection that cannot be made is tried again, and a read that was cut off. Whoever calls has longer patience.
const RETRY: RetryPolicy = RetryPolicy {
    name: "redis",
    attempts: 5,
    initial: Duration::from_millis(20),
    max: Duration::from_millis(500),
};
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take: a script of ours takes a fraction of a second, and others may be before it.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a decision may take to reach the disk.
const SYNC: Duration = Duration::from_secs(10);

/// A script, and the name under which the server keeps it.
#[derive(Debug)]
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

impl Script {
    pub(crate) fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }

    fn command(&self, call: &Call) -> redis::Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(call.keys.len());
        call.keys.iter().chain(call.args.iter()).for_each(|text| {
            command.arg(text);
        });
        command
    }
}

/// See the module.
pub(crate) struct Link {
    client: redis::Client,
    /// Host, port and database, without what is secret.
    place: String,
    slot: Mutex<Slot>,
}

/// The connection, and how many there were.
#[derive(Default)]
struct Slot {
    open: Option<Open>,
    made: u64,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    server: Server,
    /// Which connection this is.
    number: u64,
}

impl Link {
    /// Takes the URL apart; connects to nothing.
    ///
    /// # Errors
    /// `Invalid` for what is no URL of Redis.
    pub(crate) fn new(url: &str) -> Result<Self> {
        let client = redis::Client::open(url).map_err(|error| {
            Error::invalid(
                "url",
                // Not the URL itself: there may be a password in it.
                format!(
                    "it is no URL of Redis ({error}); write redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], or rediss://… for TLS"
                ),
            )
        })?;
        let info = client.get_connection_info();
        let place = format!("Redis at {}, database {}", info.addr(), info.redis_settings().db());
        Ok(Self { client, place, slot: Mutex::default() })
    }

    /// Where it is, for messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// What is known of the server.
    pub(crate) async fn server(&self) -> Result<Server> {
        Ok(self.connect("opening a read model").await?.server)
    }

    /// Runs a script that only reads, again where the connection is lost.
    pub(crate) async fn read(&self, doing: &str, script: &Script, call: &Call) -> Result<Reply> {
        self.read_command(doing, Some(script), &script.command(call)).await
    }

    /// Runs a command that only reads, as [`read`](Self::read).
    pub(crate) async fn ask(&self, doing: &str, command: &redis::Cmd) -> Result<Reply> {
        self.read_command(doing, None, command).await
    }

    async fn read_command(
        &self,
        doing: &str,
        script: Option<&Script>,
        command: &redis::Cmd,
    ) -> Result<Reply> {
        let mut attempt = 1;
        loop {
            let mut open = self.connect(doing).await?;
            let error = match run(&mut open.connection, script, command).await {
                Ok(value) => return Reply::new(value),
                Err(error) => error,
            };
            let lost = is_lost(&error);
            if lost {
                self.forget(open.number).await;
            }
            match RETRY.delay(attempt).filter(|_| lost) {
                Some(delay) => {
                    tracing::debug!(name = RETRY.name, doing, attempt, %error, "trying again");
                    tokio::time::sleep(delay).await;
                    attempt += 1;
                }
                None => return Err(self.explain(doing, &error)),
            }
        }
    }

    /// Runs a script that writes, once. Where `durable`, what it wrote is on the disk afterwards, as far as the server can say.
    ///
    /// # Errors
    /// A retryable error leaves open whether it was done.
    pub(crate) async fn write(
        &self,
        doing: &str,
        script: &Script,
        call: &Call,
        durable: bool,
    ) -> Result<Reply> {
        let mut open = self.connect(doing).await?;
        let once = async {
            let value = run(&mut open.connection, Some(script), &script.command(call)).await?;
            let synced = if durable && open.server.durable == Durable::Asked {
                let mut wait = redis::cmd("WAITAOF");
                wait.arg(1).arg(0).arg(SYNC.as_millis() as u64);
                Some(wait.query_async::<Value>(&mut open.connection).await?)
            } else {
                None
            };
            Ok::<_, RedisError>((value, synced))
        };
        match once.await {
            Ok((value, None)) => Reply::new(value),
            Ok((value, Some(synced))) => {
                if Reply::new(synced)?.number::<u64>()? == 0 {
                    return Err(Error::unavailable(format!(
                        "{doing} in {}: it was done, and is not on the disk after {SYNC:?}; look at the server's disk",
                        self.place
                    )));
                }
                Reply::new(value)
            }
            Err(error) => {
                if is_lost(&error) {
                    self.forget(open.number).await;
                }
                Err(self.explain(doing, &error))
            }
        }
    }

    async fn connect(&self, doing: &str) -> Result<Open> {
        let mut slot = self.slot.lock().await;
        if let Some(open) = &slot.open {
            return Ok(open.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        let mut attempt = 1;
        loop {
            let once = async {
                let mut connection =
                    self.client.get_multiplexed_async_connection_with_config(&config).await?;
                let info = redis::cmd("INFO").query_async::<String>(&mut connection).await?;
                Ok::<_, RedisError>((connection, info))
            };
            match once.await {
                Ok((connection, info)) => {
                    let server = Server::read(&info, &self.place)?;
                    slot.made += 1;
                    let open = Open { connection, server, number: slot.made };
                    slot.open = Some(open.clone());
                    return Ok(open);
                }
                Err(error) => match RETRY.delay(attempt).filter(|_| may_pass(&error)) {
                    Some(delay) => {
                        tracing::debug!(name = RETRY.name, doing, attempt, %error, "connecting again");
                        tokio::time::sleep(delay).await;
                        attempt += 1;
                    }
                    None => return Err(self.explain(doing, &error)),
                },
            }
        }
    }

    /// Has the next call connect anew, unless somebody has already.
    async fn forget(&self, number: u64) {
        self.slot.lock().await.open.take_if(|open| open.number == number);
    }

    fn explain(&self, doing: &str, error: &RedisError) -> Error {
        let remedy = match error.code() {
            Some("OOM") => {
                "; its memory is full and nothing was changed: raise maxmemory (redis-cli CONFIG SET maxmemory 2gb), or remove what nobody needs; then \
                 it goes on by itself"
            }
            Some("MISCONF") => {
                "; it cannot write to its disk: look at its log, and make room; then it goes on by itself"
            }
            Some("NOREPLICAS") => {
                "; too few replicas follow it for min-replicas-to-write: start them; then it goes on by itself"
            }
            _ => "",
        };
        let message = format!("{doing} in {}: {error}{remedy}", self.place);
        match error.kind() {
            _ if may_pass(error) => Error::unavailable(message),
            ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => {
                Error::failed_precondition(format!("{message}; give a user who may, in the URL"))
            }
            ErrorKind::Extension if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                Error::failed_precondition(format!("{message}; give the user and the password in the URL"))
            }
            ErrorKind::Extension if error.code() == Some("WRONGTYPE") => Error::failed_precondition(format!(
                "{message}; somebody else has written to one of Headwater's keys: give the projection another prefix, by sink.redis.keyPrefix"
            )),
            _ => Error::internal(message),
        }
    }
}

/// Runs a command; where it calls a script that the server does not know, after giving it that.
async fn run(
    connection: &mut MultiplexedConnection,
    script: Option<&Script>,
    command: &redis::Cmd,
) -> Result<Value, RedisError> {
    match (command.query_async(connection).await, script) {
        (Err(error), Some(script)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(script.code);
            load.query_async::<()>(connection).await?;
            command.query_async(connection).await
        }
        (result, _) => result,
    }
}

/// Whether another connection is needed. A server that has become a replica is one that was.
fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Whether it may be otherwise in a while.
fn may_pass(error: &RedisError) -> bool {
    let says_so = match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
        ),
        ErrorKind::Extension => {
            matches!(error.code(), Some("OOM" | "BUSY" | "UNKILLABLE" | "NOREPLICAS" | "MISCONF"))
        }
        _ => false,
    };
    says_so || (is_lost(error) && error.kind() != ErrorKind::AuthenticationFailed)
}
