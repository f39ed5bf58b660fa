//! What a server must be, and what it promises about its disk.

use headwater_core::{Error, Result};

/// What is known of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) durable: Durable,
}

/// Whether what is written outlives the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durable {
    /// It can be waited for.
    Asked,
    /// By the server's `appendfsync` alone, which it does not say: `always` before it answers, `everysec` within two seconds.
    Configured,
    /// It keeps no append-only file: up to its last snapshot.
    Snapshots,
}

impl Server {
    /// Reads what `INFO` says.
    ///
    /// # Errors
    /// `FailedPrecondition` for a server that is too old, or that drops keys.
    pub(crate) fn read(info: &str, place: &str) -> Result<Self> {
        let says =
            |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
        let version = says("redis_version").unwrap_or("of unknown version");
        let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if number < (7, 0) {
            return Err(Error::failed_precondition(format!(
                "{place} is {version}, and read models need 7.0 or later, which refuses a script beforehand when memory is short: use a newer one"
            )));
        }
        let policy = says("maxmemory_policy").unwrap_or("noeviction");
        if policy.starts_with("allkeys") && says("maxmemory").is_some_and(|limit| limit != "0") {
            return Err(Error::failed_precondition(format!(
                "{place} drops keys when memory is short (maxmemory-policy {policy}), and rows would vanish: \
                 set it to noeviction, or use a server of its own"
            )));
        }
        let keeps = says("aof_enabled") == Some("1");
        let durable = match (keeps, number >= (7, 2)) {
            (false, _) => Durable::Snapshots,
            (true, false) => Durable::Configured,
            (true, true) => Durable::Asked,
        };
        Ok(Self { durable })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Server> {
        Server::read(&lines.join("\r\n"), "Redis at x")
    }

    #[test]
    fn what_a_server_promises() {
        let check = |lines: &[&str], durable| assert_eq!(read(lines).unwrap(), Server { durable });
        check(&["# Server", "redis_version:7.0.15", "aof_enabled:1"], Durable::Configured);
        check(&["redis_version:7.2.4", "maxmemory_policy:noeviction", "aof_enabled:1"], Durable::Asked);
        check(&["redis_version:8.0.0", "aof_enabled:0"], Durable::Snapshots);
        check(&["redis_version:7.0.0", "maxmemory:0", "maxmemory_policy:allkeys-lru"], Durable::Snapshots);
        check(&["redis_version:7.0.0", "maxmemory:9", "maxmemory_policy:volatile-lru"], Durable::Snapshots);
    }

    #[test]
    fn a_server_that_does_not_do_says_why() {
        let check = |lines: &[&str], part: &str| {
            let error = read(lines).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check(&["redis_version:6.2.14"], "Redis at x is 6.2.14, and read models need 7.0 or later");
        check(&[], "of unknown version");
        check(
            &["redis_version:7.0.15", "maxmemory:100", "maxmemory_policy:allkeys-lfu"],
            "(maxmemory-policy allkeys-lfu), and rows would vanish",
        );
    }
}
