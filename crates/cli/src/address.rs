use std::fmt;
use std::str::FromStr;

/// Where a server is: `http://HOST:PORT` or `https://HOST:PORT`, without a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address(String);

impl Address {
    /// Whether TLS is spoken there.
    pub(crate) fn is_tls(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// `http://HOST:PORT`, or with https.
    pub(crate) fn url(&self) -> &str {
        &self.0
    }
}

impl FromStr for Address {
    type Err = String;

    /// Takes `http://HOST:PORT`, `https://HOST:PORT` and, as most programs do, `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "give http://HOST:PORT, for example http://127.0.0.1:50051";
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some((scheme, _)) => return Err(format!("the scheme is {scheme}; {wanted}")),
            None => ("http", text),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(format!("there is more than a host and a port; {wanted}"));
        }
        match authority.rsplit_once(':') {
            None => Err(format!("the port is missing; {wanted}")),
            Some((host, port)) => match port.parse::<u16>() {
                Ok(port) if port > 0 && !host.is_empty() => Ok(Self(format!("{scheme}://{host}:{port}"))),
                Ok(0) => Err(format!("port 0 is no port to connect to; {wanted}")),
                Ok(_) => Err(format!("the host is missing; {wanted}")),
                Err(_) => Err(format!("{port:?} is no port; {wanted}")),
            },
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            match (text.parse::<Address>(), expected) {
                (Ok(address), Ok(url)) => assert_eq!(address.url(), url),
                (Err(fault), Err(part)) => assert!(fault.starts_with(part), "{fault}"),
                (other, _) => panic!("{text:?} gave {other:?}"),
            }
        }
        check("http://127.0.0.1:50051", Ok("http://127.0.0.1:50051"));
        check("127.0.0.1:50051", Ok("http://127.0.0.1:50051"));
        check("localhost:1/", Ok("http://localhost:1"));
        check("http://[::1]:8080", Ok("http://[::1]:8080"));
        check("https://a:1", Ok("https://a:1"));
        check("grpc://a:1", Err("the scheme is grpc"));
        check("a", Err("the port is missing"));
        check(":80", Err("the host is missing"));
        check("a:0", Err("port 0"));
        check("a:http", Err("\"http\" is no port"));
        check("a:1/v1", Err("there is more"));
    }
}
