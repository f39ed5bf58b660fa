//! `{{name}}` in texts.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use uuid::Uuid;

use super::answer::{Answer, Place};

/// What `{{…}}` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference<'a> {
    /// `$uuid`
    Uuid,
    /// `$timestamp`
    Timestamp,
    /// A variable.
    Variable(&'a str),
    /// `NAME.response.body.member`: a place in the answer to a request.
    Answer(&'a str, Place),
}

/// Whether `text` can name a variable or a request.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let text = text.trim();
        match text {
            "$uuid" | "$guid" => return Ok(Self::Uuid),
            "$timestamp" => return Ok(Self::Timestamp),
            _ if text.starts_with('$') => {
                return Err(format!(
                    "{{{{{text}}}}} is not known; there are {{{{$uuid}}}} and {{{{$timestamp}}}}"
                ));
            }
            _ => {}
        }
        if let Some((name, place)) = text.split_once(".response.") {
            let (place, rest) = Place::parse(place)?;
            if is_name(name) && rest.is_empty() {
                return Ok(Self::Answer(name, place));
            }
        }
        if is_name(text) {
            return Ok(Self::Variable(text));
        }
        Err(format!("{{{{{text}}}}} is no variable: a name has letters, digits, - and _"))
    }
}

/// What is known when a request is made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    values: HashMap<String, String>,
    answers: HashMap<String, Answer>,
    fixed: Vec<String>,
}

impl Variables {
    /// Variables that the file cannot set.
    pub(crate) fn new(fixed: impl IntoIterator<Item = (String, String)>) -> Self {
        let values: HashMap<_, _> = fixed.into_iter().collect();
        Self { fixed: values.keys().cloned().collect(), values, answers: HashMap::new() }
    }

    /// Sets `name`, unless it is given from outside.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        if !self.fixed.iter().any(|fixed| fixed == name) {
            self.values.insert(name.to_owned(), value);
        }
    }

    /// Keeps the answer to the request `name`.
    pub(crate) fn keep(&mut self, name: &str, answer: Answer) {
        self.answers.insert(name.to_owned(), answer);
    }

    /// The names that are set.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// `text` with every `{{name}}` replaced.
    pub(crate) fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        each(text, |part| {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Reference(reference) => filled.push_str(&self.value(&reference)?),
            }
            Ok(())
        })?;
        Ok(filled)
    }

    fn value(&self, reference: &Reference<'_>) -> Result<String, String> {
        match reference {
            Reference::Uuid => Ok(Uuid::new_v4().to_string()),
            Reference::Timestamp => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
                Ok(now.as_secs().to_string())
            }
            Reference::Variable(name) => {
                self.values.get(*name).cloned().ok_or_else(|| format!("the variable {name} is not set"))
            }
            Reference::Answer(name, place) => {
                let answer =
                    self.answers.get(*name).ok_or_else(|| format!("there is no answer to {name} yet"))?;
                let value =
                    place.of(answer).ok_or_else(|| format!("the answer to {name} has no such place"))?;
                Ok(to_text(&value))
            }
        }
    }
}

/// Text as it is, anything else as JSON.
pub(crate) fn to_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The references in `text`.
pub(crate) fn references(text: &str) -> Result<Vec<Reference<'_>>, String> {
    let mut references = Vec::new();
    each(text, |part| {
        if let Part::Reference(reference) = part {
            references.push(reference);
        }
        Ok(())
    })?;
    Ok(references)
}

enum Part<'a> {
    Text(&'a str),
    Reference(Reference<'a>),
}

fn each<'a>(text: &'a str, mut take: impl FnMut(Part<'a>) -> Result<(), String>) -> Result<(), String> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").ok_or_else(|| "{{ is not closed with }}".to_owned())?;
        take(Part::Text(before))?;
        take(Part::Reference(Reference::parse(name)?))?;
        rest = after;
    }
    take(Part::Text(rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variables() -> Variables {
        let mut variables = Variables::new([("server".to_owned(), "http://x:1".to_owned())]);
        variables.set("server", "ignored".to_owned());
        variables.set("order-id", "o-1".to_owned());
        let body = json!({"token": "t", "n": 3});
        variables.keep("create", Answer { status: 201, headers: Vec::new(), body });
        variables
    }

    #[test]
    fn names_are_replaced() {
        #[track_caller]
        fn check(text: &str, expected: Result<&str, &str>) {
            assert_eq!(variables().fill(text), expected.map(str::to_owned).map_err(str::to_owned));
        }
        check("{{server}}/v1/{{ order-id }}!", Ok("http://x:1/v1/o-1!"));
        check("{\"a\": {\"b\": 1}}", Ok("{\"a\": {\"b\": 1}}"));
        check(
            "{{create.response.body.token}} {{create.response.body.$.n}} {{create.response.status}}",
            Ok("t 3 201"),
        );
        check("{{other}}", Err("the variable other is not set"));
        check("{{a b}}", Err("{{a b}} is no variable: a name has letters, digits, - and _"));
        check("{{$random}}", Err("{{$random}} is not known; there are {{$uuid}} and {{$timestamp}}"));
        check("{{server", Err("{{ is not closed with }}"));
        check("{{create.response.body.gone}}", Err("the answer to create has no such place"));
    }

    #[test]
    fn each_uuid_is_new() {
        let filled = variables().fill("{{$uuid}} {{$uuid}}").unwrap();
        let (one, other) = filled.split_once(' ').unwrap();
        assert_ne!(one.parse::<Uuid>().unwrap(), other.parse::<Uuid>().unwrap());
    }
}
