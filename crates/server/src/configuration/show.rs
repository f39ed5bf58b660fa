//! The options as they come out, as a file that could be given with `--config`, but for its passwords.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::{OptionKind, keys, kind};

/// One line an option: its value, and where it is from. `file` names the file that an option's default is from.
pub(super) fn options<'f>(
    command: &Command,
    matches: &ArgMatches,
    file: impl Fn(&str) -> Option<&'f str>,
) -> String {
    let line = |(key, arg): (String, &Arg)| {
        let id = arg.get_id().as_str();
        let from = match matches.value_source(id) {
            Some(ValueSource::CommandLine) => "flag".to_owned(),
            Some(ValueSource::EnvVariable) => {
                format!("environment, {}", arg.get_env().unwrap_or_default().to_string_lossy())
            }
            Some(_) => file(id).unwrap_or("default").to_owned(),
            None => return format!("# {key}: not set\n"),
        };
        format!("{key}: {}  # {from}\n", value(arg, matches))
    };
    keys(command).map(line).collect::<Vec<_>>().concat()
}

fn value(arg: &Arg, matches: &ArgMatches) -> String {
    let raw = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
    // JSON is YAML that needs no thought about quotes.
    let quoted = |text: &std::ffi::OsStr| {
        serde_json::Value::from(without_password(&text.to_string_lossy())).to_string()
    };
    match kind(arg) {
        OptionKind::List => format!("[{}]", raw.map(quoted).collect::<Vec<_>>().join(", ")),
        OptionKind::Text => raw.map(quoted).next_back().unwrap_or_default(),
        OptionKind::Switch => matches.get_flag(arg.get_id().as_str()).to_string(),
    }
}

/// A text without what URLs in it keep secret: the password before the host, and parameters that hold one.
fn without_password(text: &str) -> String {
    let Some((before, after)) = text.split_once("://") else {
        // As some libraries have it: host=db password=pw.
        let hides = |word: &str| match word.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}=***"),
            _ => word.to_owned(),
        };
        return text.split(' ').map(hides).collect::<Vec<_>>().join(" ");
    };
    let (authority, rest) = after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()));
    // What stands before the last @ may itself have one.
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:***@{host}"),
            None => format!("{user}@{host}"),
        },
        None => authority.to_owned(),
    };
    let rest = match rest.split_once('?') {
        Some((path, query)) => {
            let parameter = |pair: &str| match pair.split_once('=') {
                Some((name, _)) if is_secret(name) => format!("{name}=***"),
                _ => pair.to_owned(),
            };
            format!("{path}?{}", query.split('&').map(parameter).collect::<Vec<_>>().join("&"))
        }
        None => rest.to_owned(),
    };
    format!("{before}://{authority}{rest}")
}

fn is_secret(parameter: &str) -> bool {
    let parameter = parameter.to_lowercase();
    ["password", "secret", "token"].iter().any(|word| parameter.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        #[track_caller]
        fn check(text: &str, shown: &str) {
            assert_eq!(without_password(text), shown);
        }
        check("postgres://me:pw@db/x", "postgres://me:***@db/x");
        check("postgres://me:p@w@db:5432/x?sslmode=require", "postgres://me:***@db:5432/x?sslmode=require");
        check("postgres://db/x?user=me&password=pw", "postgres://db/x?user=me&password=***");
        check("redis://:pw@r:6379", "redis://:***@r:6379");
        check("nats://me@n:4222", "nats://me@n:4222");
        check("orders=http://127.0.0.1:1/a@b", "orders=http://127.0.0.1:1/a@b");
        check("127.0.0.1:50051", "127.0.0.1:50051");
        check("host=h password=pw user=me", "host=h password=*** user=me");
    }
}
