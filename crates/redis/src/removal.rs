//! The end of a read model.
//!
//! ```text
//! remove ──▶ whose is it? does somebody fold there? ──▶ let go, in one script ──▶ its keys, some at a time ──▶ the state, last
//! ```
//!
//! Cut off in the middle, it is done again; until all is gone, nobody takes the prefix.

use headwater_core::{Error, LogId, Result};
use uuid::Uuid;

use crate::call::Call;
use crate::keys::Keys;
use crate::link::Link;
use crate::scripts::Scripts;
use crate::view::check_prefix;

/// Keys that are looked at, and so removed at most, at a time.
const STEP: usize = 1_000;

/// Removes the read model of the projection `name`, of the log `log_id`, which may be unknown where none was built, under `prefix` in the Redis at `url`. Whether
/// there was one.
///
/// # Errors
/// `Invalid` for a URL or a prefix that is none; `FailedPrecondition`, and nothing is changed, when it is another's, and when a process folds
/// there; `Unavailable` when the server cannot be reached.
pub async fn remove(url: &str, prefix: &str, name: &str, log_id: Option<LogId>) -> Result<bool> {
    check_prefix(prefix)?;
    let (link, scripts, keys) = (Link::new(url)?, Scripts::new(), Keys::new(prefix));
    let (doing, place) = ("removing a read model", format!("prefix \"{prefix}\" in {}", link.place()));
    let token = Uuid::new_v4().to_string();
    let call = Call::default()
        .key(keys.state())
        .key(keys.leases())
        .key(keys.active())
        .arg(name)
        .arg(log_id.map(|id| id.to_string()).unwrap_or_default())
        .arg(&token);
    let mut reply = link.write(doing, &scripts.let_go, &call, true).await?;
    match reply.text()?.as_str() {
        "ok" => {}
        "nothing" => return Ok(false),
        "used" => {
            let mut names = Vec::new();
            while !reply.is_empty() {
                names.push(reply.text()?);
            }
            return Err(Error::failed_precondition(format!(
                "{place} is in use by {}; nothing was changed: end that first, and where it was killed, wait for some seconds",
                names.join(", ")
            )));
        }
        _ => {
            let (projection, log_id) = (reply.text()?, reply.text()?);
            return Err(Error::failed_precondition(format!(
                "{place} holds {}, which is another's; nothing was changed",
                match (projection.as_str(), log_id.as_str()) {
                    ("", _) => "something that is not Headwater's".to_owned(),
                    (_, "") => format!("the read model of projection \"{projection}\""),
                    _ => format!(
                        "the read model of projection \"{projection}\", built from log {log_id} (where that is yours: --delete-data={log_id})"
                    ),
                }
            )));
        }
    }
    for pattern in keys.patterns() {
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
            let mut found = link.ask(doing, &scan).await?;
            cursor = found.text()?;
            let mut call = Call::default().key(keys.state()).arg(&token);
            for key in found.list()?.all_bytes() {
                // The state goes last: it says whose all the rest is.
                if let Some(key) = key?.filter(|key| keys.is_own(key) && *key != keys.state().into_bytes()) {
                    call.keys.push(key);
                }
            }
            if call.keys.len() > 1 {
                step(&link, &scripts, &call, &place).await?;
            }
            if cursor == "0" {
                break;
            }
        }
    }
    let last = Call::default().key(keys.state()).key(keys.state()).arg(&token);
    step(&link, &scripts, &last, &place).await?;
    Ok(true)
}

async fn step(link: &Link, scripts: &Scripts, call: &Call, place: &str) -> Result<()> {
    // Done twice, it does no harm.
    let mut reply = link.read("removing a read model", &scripts.remove, call).await?;
    if reply.number::<u8>()? == 0 {
        return Err(Error::failed_precondition(format!(
            "{place} is being removed by somebody else: that goes on"
        )));
    }
    Ok(())
}
