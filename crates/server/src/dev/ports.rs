use std::collections::BTreeMap;

use headwater_core::{Error, Result};
use tokio::net::TcpListener;

use crate::listen::Listen;

/// So many ports after the first are tried for a stream that is added.
const TRIES: usize = 1_000;

/// Which event stream listens where. A stream that comes back finds its port again.
#[derive(Debug)]
pub(super) struct Ports {
    first: Listen,
    /// By the stream's name, for as long as this process runs.
    known: BTreeMap<String, u16>,
}

impl Ports {
    /// The streams get `first` and the ports after it.
    pub(super) fn new(first: Listen) -> Self {
        Self { first, known: BTreeMap::new() }
    }

    /// Listens for all of `names`, in order, on one port after the other; `query` is where the query API is to be.
    ///
    /// # Errors
    /// As [`Listen::bind`]; `Invalid` when one of them is the query API's.
    pub(super) async fn bind_all<'n>(
        &mut self,
        names: impl Iterator<Item = &'n String>,
        query: Listen,
    ) -> Result<Vec<TcpListener>> {
        let mut listeners = Vec::new();
        let mut before: Option<Listen> = None;
        for name in names {
            let here = before.map_or(Ok(self.first), |before| before.next())?;
            here.check_apart(&who(name), query.address, query.flag)?;
            let listener = here.bind(&who(name)).await?;
            if let Ok(address) = listener.local_addr() {
                self.remember(name, address.port());
            }
            listeners.push(listener);
            before = Some(here);
        }
        Ok(listeners)
    }

    /// Listens for `name`, which is added: where it did before, or else on the first port that is free.
    ///
    /// # Errors
    /// As [`Listen::bind`].
    pub(super) async fn bind(&self, name: &str) -> Result<TcpListener> {
        let who = who(name);
        let before = self.known.get(name).map(|port| self.first.at(*port));
        let mut listen = self.first;
        if let Some(before) = before
            && let Some(listener) = before.try_bind(&who).await?
        {
            return Ok(listener);
        }
        for _ in 0..TRIES {
            if let Some(listener) = listen.try_bind(&who).await? {
                return Ok(listener);
            }
            listen = listen.next()?;
        }
        Err(Error::failed_precondition(format!(
            "no port from {} on is free for {who}; stop what listens there, or choose others with {} {}:PORT",
            self.first.address,
            self.first.flag,
            self.first.address.ip()
        )))
    }

    /// From now on `name` listens there.
    pub(super) fn remember(&mut self, name: &str, port: u16) {
        self.known.insert(name.to_owned(), port);
    }
}

fn who(name: &str) -> String {
    format!("the event store of \"{name}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(listener: &TcpListener) -> u16 {
        listener.local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_stream_finds_its_port_again_and_ports_in_use_are_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let mut ports = Ports::new(Listen { address, flag: "--listen" });
        let a = ports.bind("a").await.unwrap();
        let here = port(&a);
        ports.remember("a", here);
        assert!(here > address.port());
        drop(a);
        drop(taken);
        assert_eq!(port(&ports.bind("a").await.unwrap()), here, "where it was");
        assert_eq!(port(&ports.bind("b").await.unwrap()), address.port(), "what is free by now");
    }
}
