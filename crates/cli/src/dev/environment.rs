use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use headwater_server::Ready;

/// What programs need to know to find what is `ready`, and what was built beside this program (`own`), before what `path` has.
pub(crate) fn environment(ready: &Ready, own: &Path, path: &OsStr) -> Result<BTreeMap<String, OsString>> {
    let mut environment = BTreeMap::from([("HEADWATER_QUERY_SERVER".to_owned(), ready.query.clone().into())]);
    if let Some(stream) = ready.streams.first() {
        environment.insert("HEADWATER_SERVER".to_owned(), stream.url.clone().into());
    }
    for stream in &ready.streams {
        let name = stream.name.to_uppercase().replace('-', "_");
        environment.insert(format!("HEADWATER_SERVER_{name}"), stream.url.clone().into());
    }
    let folders = own.parent().map(PathBuf::from).into_iter().chain(std::env::split_paths(path));
    environment.insert("PATH".to_owned(), std::env::join_paths(folders).context("the PATH of programs")?);
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use headwater_server::StreamAt;

    use super::*;

    #[test]
    fn programs_are_told_every_address() {
        let stream = |name: &str, port: u16| StreamAt {
            name: name.to_owned(),
            url: format!("http://127.0.0.1:{port}"),
            partitions: 1,
        };
        let ready = Ready {
            streams: vec![stream("orders", 1), stream("orders-audit", 2)],
            query: "http://127.0.0.1:3".to_owned(),
            sagas: Vec::new(),
            projections: Vec::new(),
            data_dir: PathBuf::new(),
            startup_ms: 0,
        };
        let found =
            environment(&ready, Path::new("/opt/bin/headwater"), OsStr::new("/usr/bin:/bin")).unwrap();
        let found: Vec<_> = found.iter().map(|(name, value)| format!("{name}={}", value.display())).collect();
        assert_eq!(
            found,
            [
                "HEADWATER_QUERY_SERVER=http://127.0.0.1:3",
                "HEADWATER_SERVER=http://127.0.0.1:1",
                "HEADWATER_SERVER_ORDERS=http://127.0.0.1:1",
                "HEADWATER_SERVER_ORDERS_AUDIT=http://127.0.0.1:2",
                "PATH=/opt/bin:/usr/bin:/bin",
            ]
        );
    }
}
