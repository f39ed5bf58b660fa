//! Places in a log, as arguments.

use headwater_api::StartFrom;
use headwater_core::{EventType, StreamId, Token};
use jiff::Timestamp;

/// `beginning`, `end`, a token, or a time.
pub(crate) fn parse(text: &str) -> Result<StartFrom, String> {
    match text {
        "beginning" => return Ok(StartFrom::Beginning),
        "end" => return Ok(StartFrom::End),
        _ => {}
    }
    match parse_past(text)? {
        Past::Token(token) => Ok(StartFrom::After(token)),
        Past::Time(time) => Ok(StartFrom::Time(time)),
    }
}

/// A place that has been: a token, or a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Past {
    Token(Token),
    Time(Timestamp),
}

/// A token, or a time.
pub(crate) fn parse_past(text: &str) -> Result<Past, String> {
    // A time has colons, a token never has.
    if text.contains(':') {
        return text
            .parse()
            .map(Past::Time)
            .map_err(|error| format!("not a time: {error}; give one such as 2026-01-31T12:00:00Z"));
    }
    match text.parse::<Token>() {
        Ok(token) => Ok(Past::Token(token)),
        Err(_) => {
            Err("neither a token, as appends and reads give it, nor a time such as 2026-01-31T12:00:00Z"
                .to_owned())
        }
    }
}

/// The name of an event type.
pub(crate) fn event_type(text: &str) -> Result<EventType, String> {
    EventType::new(text).map_err(|error| error.to_string())
}

/// A stream id.
pub(crate) fn stream_id(text: &str) -> Result<StreamId, String> {
    StreamId::new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use headwater_core::{LogId, Partition, Position, Positions};

    use super::*;

    #[test]
    fn a_place_is_a_word_a_token_or_a_time() {
        let token = Token::new(LogId::generate(), Positions::one(Partition::new(2), Position::new(77)));
        assert_eq!(parse("beginning"), Ok(StartFrom::Beginning));
        assert_eq!(parse("end"), Ok(StartFrom::End));
        assert_eq!(parse(&token.to_string()), Ok(StartFrom::After(token)));
        assert_eq!(
            parse("2026-01-31T12:00:00Z"),
            Ok(StartFrom::Time("2026-01-31T12:00:00Z".parse().unwrap()))
        );
        for (text, fault) in [("yesterday", "neither a token"), ("2026-13-31T12:00:00Z", "not a time")] {
            assert!(parse(text).unwrap_err().starts_with(fault), "{text}");
        }
    }
}
