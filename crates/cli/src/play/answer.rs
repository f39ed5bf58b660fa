//! An answer, and places in it.

use serde_json::Value;

/// What a server answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// JSON as such, anything else as text; null: none.
    pub(crate) body: Value,
}

/// A place in an answer: `status`, `header.NAME`, or `body` and the way into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Status,
    Header(String),
    Body(Vec<Step>),
}

/// One step into JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Member(String),
    Index(usize),
}

impl Place {
    /// Reads a place. What follows a body's way is handed back.
    pub(crate) fn parse(text: &str) -> Result<(Self, &str), String> {
        if let Some(rest) = word(text, "status") {
            return Ok((Self::Status, rest));
        }
        if let Some(rest) = text.strip_prefix("header.").or_else(|| text.strip_prefix("headers.")) {
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            if end == 0 {
                return Err("a header's name is missing, as in header.content-type".to_owned());
            }
            return Ok((Self::Header(rest[..end].to_ascii_lowercase()), &rest[end..]));
        }
        match text.strip_prefix("body") {
            Some(rest) => parse_way(rest).map(|(way, rest)| (Self::Body(way), rest)),
            None => {
                Err(format!("{text:?} is no place in an answer; give status, header.NAME, or body.MEMBER"))
            }
        }
    }

    /// What is there.
    pub(crate) fn of(&self, answer: &Answer) -> Option<Value> {
        match self {
            Self::Status => Some(answer.status.into()),
            Self::Header(name) => {
                let header = answer.headers.iter().find(|(known, _)| known == name);
                header.map(|(_, value)| value.clone().into())
            }
            Self::Body(way) => {
                let mut value = answer.body.clone();
                for step in way {
                    value = match (step, value) {
                        (Step::Member(name), Value::Object(mut members)) => members.remove(name)?,
                        (Step::Member(name), Value::Array(items)) if name == "length" => items.len().into(),
                        (Step::Index(index), Value::Array(items)) => items.into_iter().nth(*index)?,
                        _ => return None,
                    };
                }
                // An empty body is nothing.
                (!(way.is_empty() && value.is_null())).then_some(value)
            }
        }
    }
}

/// `text` after `word`, where it begins with it as a whole.
fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(word)?;
    (rest.is_empty() || rest.starts_with(char::is_whitespace)).then_some(rest)
}

/// `.member`, `[0]`, `["odd name"]`, as often as they come; `.$` is where a JSONPath begins, and says nothing.
fn parse_way(mut text: &str) -> Result<(Vec<Step>, &str), String> {
    let mut way = Vec::new();
    loop {
        if let Some(rest) = text.strip_prefix('.') {
            let end = rest.find(|c: char| c.is_whitespace() || c == '.' || c == '[').unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            if name.is_empty() {
                return Err("a member's name is missing after the dot".to_owned());
            }
            if name != "$" || !way.is_empty() {
                way.push(Step::Member(name.to_owned()));
            }
            text = rest;
        } else if let Some(rest) = text.strip_prefix('[') {
            let (step, rest) = if let Some(quoted) = rest.strip_prefix('"') {
                let (name, rest) = quoted.split_once("\"]").ok_or("a bracket is not closed with \"]")?;
                (Step::Member(name.to_owned()), rest)
            } else {
                let (index, rest) = rest.split_once(']').ok_or("a bracket is not closed with ]")?;
                let no_index = |_| format!("{index:?} is no index; give [0] or [\"name\"]");
                (Step::Index(index.parse().map_err(no_index)?), rest)
            };
            way.push(step);
            text = rest;
        } else if text.is_empty() || text.starts_with(char::is_whitespace) {
            return Ok((way, text));
        } else {
            return Err(format!("{text:?} does not follow; go on with .member or [0]"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Answer {
        Answer {
            status: 200,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: json!({"rows": [{"id": "a", "odd name": 1}, {"id": "b"}], "next": null}),
        }
    }

    #[test]
    fn places_lead_to_values() {
        #[track_caller]
        fn check(place: &str, expected: Option<Value>) {
            let (place, rest) = Place::parse(place).unwrap();
            assert_eq!((place.of(&answer()), rest), (expected, ""));
        }
        check("status", Some(json!(200)));
        check("header.Content-Type", Some(json!("application/json")));
        check("header.etag", None);
        check("body.rows[1].id", Some(json!("b")));
        check("body.$.rows[1].id", Some(json!("b")));
        check("body.rows[0][\"odd name\"]", Some(json!(1)));
        check("body.rows.length", Some(json!(2)));
        check("body.rows[2]", None);
        check("body.next", Some(json!(null)));
        check("body.next.more", None);
        check("body", Some(answer().body));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "statuses", "body.", "body[", "body[x]", "body[\"x]", "bodyx", "header.", "rows"] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_follows_is_handed_back() {
        assert_eq!(Place::parse("body.a == 1").unwrap().1, " == 1");
        assert_eq!(Place::parse("status 201").unwrap().1, " 201");
        assert_eq!(Place::parse("header.a exists").unwrap().1, " exists");
    }
}
