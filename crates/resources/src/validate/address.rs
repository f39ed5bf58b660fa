//! Where calls go: hosts and ports.

use http::uri::Authority;

/// What is wrong with `HOST` or `HOST:PORT`, if something is.
pub(super) fn fault(text: &str) -> Option<String> {
    if text.contains('@') {
        return Some(format!("\"{text}\" names a user; credentials belong in a header with valueFrom"));
    }
    let Ok(authority) = text.parse::<Authority>() else {
        return Some(format!("\"{text}\" is no host"));
    };
    if authority.host().is_empty() {
        return Some(format!("\"{text}\" has no host"));
    }
    match text.strip_prefix(authority.host()).and_then(|rest| rest.strip_prefix(':')) {
        Some(port) if !matches!(port.parse::<u16>(), Ok(1..)) => {
            Some(format!("\"{port}\" is no port; ports are 1 to 65535"))
        }
        _ => None,
    }
}

/// What is wrong with `HOST:PORT`, if something is.
pub(super) fn fault_with_port(text: &str) -> Option<String> {
    fault(text).or_else(|| {
        let authority = text.parse::<Authority>().ok()?;
        authority.port().is_none().then(|| format!("\"{text}\" has no port"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_from_what_is_none() {
        for good in ["shop", "shop:80", "shop.svc.cluster.local:65535", "127.0.0.1:1", "[::1]:8080", "[::1]"]
        {
            assert_eq!(fault(good), None, "{good}");
        }
        for (bad, part) in [
            ("", "no host"),
            (":80", "no host"),
            ("a b", "no host"),
            ("shop:", "is no port"),
            ("shop:0", "is no port"),
            ("shop:65536", "is no port"),
            ("shop:http", "no"),
            ("me@shop", "names a user"),
        ] {
            let fault = fault(bad).unwrap_or_else(|| panic!("{bad} is taken"));
            assert!(fault.contains(part), "{bad}: {fault}");
        }
        assert_eq!(fault_with_port("shop:80"), None);
        assert!(fault_with_port("shop").unwrap().contains("has no port"));
    }
}
