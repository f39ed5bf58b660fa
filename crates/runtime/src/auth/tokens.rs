//! Bearer tokens by the name of who has each.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use headwater_core::{Error, Result};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Identity;
use crate::reload::{self, Files, Source};

const OPTION: &str = "bearer-tokens";

/// Shorter ones can be guessed. 24 characters of base64 are 18 bytes.
const SHORTEST: usize = 24;

/// All tokens, as their digests.
#[derive(Debug)]
pub(crate) struct Tokens(Vec<(String, [u8; 32])>);

impl Tokens {
    /// Whose `token` is. Takes as long whichever it is, or none.
    pub(super) fn find(&self, token: &str) -> Option<Identity> {
        let wanted = digest(token);
        let mut found = None;
        for (name, known) in &self.0 {
            if bool::from(known.ct_eq(&wanted)) {
                found = Some(name);
            }
        }
        found.cloned().map(Identity::Token)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// A file of lines `name: token`, or a folder of files, each called by a name.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

impl Source for Folder {
    type Value = Tokens;

    fn what(&self) -> &'static str {
        "tokens"
    }

    fn read(&self) -> Result<Files> {
        if !self.0.is_dir() {
            return Ok(vec![reload::read(OPTION, &self.0)?]);
        }
        let unreadable = |error| reload::unreadable(OPTION, &self.0, &error);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.0).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            // A mounted Secret keeps its versions in folders that begin with two dots.
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !is_hidden && path.is_file() {
                files.push(reload::read(OPTION, &path)?);
            }
        }
        files.sort();
        Ok(files)
    }

    fn parse(&self, files: &Files) -> Result<Tokens> {
        let mut tokens = Vec::new();
        let (mut names, mut digests) = (HashSet::new(), HashSet::new());
        let mut add = |place: String, name: &str, token: &str| {
            let refused = |fault: &str| Err(Error::invalid(OPTION, format!("{place}: {fault}")));
            if name.is_empty() || name.chars().any(char::is_whitespace) {
                return refused("the name before the token is missing or has spaces; write `name: token`");
            }
            if token.len() < SHORTEST {
                // Not the name: who has written `token: name` would find the token in the log.
                return refused(&format!(
                    "the token behind the name is shorter than {SHORTEST} characters: make one by `openssl rand -base64 32`, and write `name: token`"
                ));
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return refused(&format!("the token of {name:?} has characters that no header takes"));
            }
            if !names.insert(name.to_owned()) {
                return refused(&format!("there are two tokens of {name:?}: give each a name of its own"));
            }
            let token = digest(token);
            if !digests.insert(token) {
                return refused(&format!("the token of {name:?} is another name's as well"));
            }
            tokens.push((name.to_owned(), token));
            Ok(())
        };
        if self.0.is_dir() {
            for (path, bytes) in files {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                add(path.display().to_string(), &name, text(path, bytes)?.trim())?;
            }
        } else {
            for (path, bytes) in files {
                for (number, line) in text(path, bytes)?.lines().enumerate() {
                    let line = line.trim();
                    if line.is_empty() || line.starts_with('#') {
                        continue;
                    }
                    let (name, token) = line.split_once(':').unwrap_or(("", line));
                    let place = format!("{} line {}", path.display(), number + 1);
                    add(place, unquoted(name.trim()), unquoted(token.trim()))?;
                }
            }
        }
        Ok(Tokens(tokens))
    }
}

fn text<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|_| Error::invalid(OPTION, format!("{} is no UTF-8", path.display())))
}

/// Without the quotes that YAML allows.
fn unquoted(text: &str) -> &str {
    ['"', '\''].iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "one-0123456789-0123456789";
    const TWO: &str = "two-0123456789-0123456789";

    fn parse(text: &str) -> Result<Tokens> {
        Folder("/tokens.yaml".into()).parse(&vec![("/tokens.yaml".into(), text.as_bytes().to_vec())])
    }

    #[test]
    fn a_token_is_found_by_the_name_before_it() {
        let tokens = parse(
            &format!("# ours\nalpha: {ONE}\n\n\"b:c\": x\n").replace("\"b:c\": x", &format!("beta: '{TWO}'")),
        );
        let tokens = tokens.unwrap();
        assert_eq!(tokens.find(ONE), Some(Identity::Token("alpha".into())));
        assert_eq!(tokens.find(TWO), Some(Identity::Token("beta".into())));
        assert_eq!(tokens.find(&ONE[1..]), None);
        assert_eq!(tokens.find(""), None);
        assert!(!format!("{tokens:?}").contains(ONE));
    }

    #[test]
    fn a_folder_has_a_file_for_each_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("..data")).unwrap();
        std::fs::write(folder.path().join("alpha"), format!("{ONE}\n")).unwrap();
        std::fs::write(folder.path().join("beta"), TWO).unwrap();
        let source = Folder(folder.path().to_owned());
        let tokens = source.parse(&source.read().unwrap()).unwrap();
        assert_eq!(tokens.find(TWO), Some(Identity::Token("beta".into())));
        assert_eq!(tokens.find(ONE), Some(Identity::Token("alpha".into())));
    }

    #[test]
    fn what_is_wrong_is_said_by_its_line_and_never_what_the_token_is() {
        #[track_caller]
        fn refused(text: &str, part: &str) {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("bearer-tokens: /tokens.yaml line ") && error.contains(part),
                "{error}"
            );
            assert!(!error.contains("0123456789"), "{error}");
        }
        refused(ONE, "line 1: the name before the token");
        refused(&format!("a b: {ONE}"), "the name before the token");
        refused("\n\na: short-0123456789", "line 3: the token behind the name is shorter");
        // The wrong way round.
        refused(&format!("{ONE}: a"), "the token behind the name is shorter");
        refused(&format!("a: {ONE} {TWO}"), "no header takes");
        refused(&format!("a: {ONE}\na: {TWO}"), "line 2: there are two");
        refused(&format!("a: {ONE}\nb: {ONE}"), "another name's");
    }
}
