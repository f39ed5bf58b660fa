//! Lists of instances, page by page: those that have not ended first, by name, then those that have, by their place in the saga's log.

use axum::extract::Query;
use axum::http::Uri;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use headwater_core::{Error, Partition, Position, Positions, Result, Version};
use serde::{Deserialize, Serialize};

use crate::instance::State;
use crate::service::SagaService;
use crate::show::Summary;

/// Entries of a page that says no limit.
pub(crate) const DEFAULT_LIMIT: usize = 100;
/// Entries of a page at most.
const MAX_LIMIT: usize = 1_000;
/// The states that are shown unless others are asked for: those of instances that have not ended.
const DEFAULT_STATES: [State; 3] = [State::Running, State::Compensating, State::NeedsAttention];
/// The form of a cursor. A newer form gets another.
const FORMAT: u8 = 1;

/// What a list is to show.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// In the order of [`State::ALL`], each once.
    states: Vec<State>,
    limit: usize,
    after: Place,
}

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// After this name, among those that have not ended.
    Open(Option<String>),
    /// After these positions, among those that have.
    Ended(Positions),
}

/// A place as text: opaque to everybody else.
#[derive(Serialize, Deserialize)]
struct Cursor {
    #[serde(rename = "v")]
    format: u8,
    /// Of the list.
    #[serde(rename = "s")]
    states: Vec<String>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    open: Option<String>,
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    ended: Option<Vec<(u16, u64)>>,
}

impl Parameters {
    pub(crate) fn read(uri: &Uri) -> Result<Self> {
        let (mut asked, mut count, mut after) = (Vec::new(), DEFAULT_LIMIT, None);
        for (name, value) in pairs(uri)? {
            match name.as_str() {
                "state" => asked.push(value.parse::<State>()?),
                "limit" => count = limit(&value)?,
                "after" => after = Some(value),
                _ => {
                    let message = "there is no such parameter; there is state, limit, after";
                    return Err(Error::invalid(name, message));
                }
            }
        }
        Self::new(asked, count, after.as_deref())
    }

    /// A page of at most `limit` instances in one of the states `asked` for, after the place where a page of the same ended.
    pub(crate) fn new(mut asked: Vec<State>, limit: usize, after: Option<&str>) -> Result<Self> {
        if asked.is_empty() {
            asked.extend(DEFAULT_STATES);
        }
        let states: Vec<State> = State::ALL.into_iter().filter(|state| asked.contains(state)).collect();
        let after = after.map_or(Ok(Place::Open(None)), |text| Place::decode(text, &states))?;
        Ok(Self { states, limit, after })
    }
}

impl Place {
    fn encode(self, states: &[State]) -> Result<String> {
        let (open, ended) = match self {
            Self::Open(name) => (name, None),
            Self::Ended(positions) => {
                let positions =
                    positions.iter().map(|(partition, position)| (partition.get(), position.get()));
                (None, Some(positions.collect()))
            }
        };
        let cursor = Cursor { format: FORMAT, states: words(states), open, ended };
        let bytes = serde_json::to_vec(&cursor)
            .map_err(|error| Error::internal(format!("writing a cursor: {error}")))?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn decode(text: &str, states: &[State]) -> Result<Self> {
        let wrong = |why: &str| {
            Error::invalid(
                "after",
                format!("{why}; give `next` of the page before exactly as it was, and the same states"),
            )
        };
        let nothing = || wrong("not a place in a list");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| nothing())?;
        let cursor: Cursor = serde_json::from_slice(&bytes).map_err(|_| nothing())?;
        if cursor.format != FORMAT || cursor.states != words(states) {
            return Err(wrong("it is of a list of other states"));
        }
        match (cursor.open, cursor.ended) {
            (Some(name), None) => Ok(Self::Open(Some(name))),
            (None, Some(positions)) => {
                if positions.iter().any(|(_, position)| *position > Position::MAX.get()) {
                    return Err(nothing());
                }
                let positions = positions
                    .into_iter()
                    .map(|(partition, position)| (Partition::new(partition), Position::new(position)));
                Ok(Self::Ended(positions.collect()))
            }
            _ => Err(nothing()),
        }
    }
}

fn words(states: &[State]) -> Vec<String> {
    states.iter().map(|state| state.as_str().to_owned()).collect()
}

/// A page, and the text to give as `after` for the next one, if there may be more.
pub(crate) async fn page(
    service: &SagaService,
    parameters: &Parameters,
) -> Result<(Vec<Summary>, Option<String>)> {
    let Parameters { states, limit, after } = parameters;
    let limit = *limit;
    let (ended, open): (Vec<State>, Vec<State>) = states.iter().partition(|state| state.is_ended());
    let next = |place: Place| place.encode(states).map(Some);
    let (mut summaries, from) = match after {
        Place::Ended(positions) => (Vec::new(), positions.clone()),
        Place::Open(name) => {
            // One more, to know whether there are more.
            let mut found = service.open(&open, name.as_deref(), limit + 1).await?;
            let is_cut = found.len() > limit;
            found.truncate(limit);
            let last = found.last().map(|last| last.instance.clone());
            // What has moved on since it was looked up is in another list now.
            found.retain(|summary| open.contains(&summary.state));
            if is_cut {
                return Ok((found, next(Place::Open(last))?));
            }
            (found, Positions::default())
        }
    };
    if ended.is_empty() {
        return Ok((summaries, None));
    }
    let room = limit - summaries.len();
    if room == 0 {
        return Ok((summaries, next(Place::Ended(from))?));
    }
    let (found, rest) = service.ended(&ended, from, room).await?;
    summaries.extend(found);
    match rest {
        Some(positions) => Ok((summaries, next(Place::Ended(positions))?)),
        None => Ok((summaries, None)),
    }
}

/// The parameters of a URL.
pub(crate) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>> {
    Query::try_from_uri(uri)
        .map(|Query(pairs)| pairs)
        .map_err(|error| Error::invalid("url", error.body_text()))
}

/// How many a page is to have.
pub(crate) fn limit(text: &str) -> Result<usize> {
    text.parse()
        .ok()
        .filter(|number| (1..=MAX_LIMIT).contains(number))
        .ok_or_else(|| Error::invalid("limit", format!("{text:?} is not a number from 1 to {MAX_LIMIT}")))
}

/// A number that a page ended at.
pub(crate) fn number(text: &str) -> Result<Version> {
    text.parse().ok().filter(|number| *number < Version::MAX.get()).map(Version::new).ok_or_else(|| {
        Error::invalid("after", format!("{text:?} is no place in the list; give `next` of the page before"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Parameters> {
        Parameters::read(&format!("/v1/sagas/s/instances{query}").parse().unwrap())
    }

    #[track_caller]
    fn refuses(query: &str, field: &str, part: &str) {
        match read(query) {
            Err(Error::Invalid { field: wrong, message }) => {
                assert_eq!(wrong, field);
                assert!(message.contains(part), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn states_are_those_that_are_asked_for_or_those_that_have_not_ended() {
        assert_eq!(read("").unwrap().states, DEFAULT_STATES);
        assert_eq!(
            read("?state=compensated&state=needs-attention&state=compensated").unwrap().states,
            [State::NeedsAttention, State::Compensated]
        );
        for state in State::ALL {
            assert_eq!(read(&format!("?state={}", state.as_str())).unwrap().states, [state]);
        }
        refuses("?state=done", "state", "needs-attention, completed");
        refuses("?colour=red", "colour", "there is state, limit, after");
    }

    #[test]
    fn a_limit_is_a_number_within_bounds() {
        assert_eq!(read("").unwrap().limit, DEFAULT_LIMIT);
        assert_eq!(read("?limit=1000").unwrap().limit, 1_000);
        for limit in ["0", "1001", "-1", "many", ""] {
            refuses(&format!("?limit={limit}"), "limit", "from 1 to 1000");
        }
    }

    #[test]
    fn a_place_comes_back_and_only_for_its_list() {
        let states = [State::Running, State::Completed];
        let positions: Positions = [(0, 7), (3, i64::MAX as u64)]
            .map(|(p, n)| (Partition::new(p), Position::new(n)))
            .into_iter()
            .collect();
        for place in [
            Place::Open(Some("order/1 &é".to_owned())),
            Place::Ended(positions),
            Place::Ended(Positions::default()),
        ] {
            let text = place.clone().encode(&states).unwrap();
            let query = format!("?state=completed&state=running&after={text}");
            assert_eq!(read(&query).unwrap().after, place);
            refuses(&format!("?state=completed&after={text}"), "after", "other states");
        }
        for text in ["", "nonsense", "e30"] {
            refuses(&format!("?after={text}"), "after", "not a place");
        }
        let beyond = r#"{"v":1,"s":["running"],"e":[[0,18446744073709551615]]}"#;
        refuses(&format!("?state=running&after={}", URL_SAFE_NO_PAD.encode(beyond)), "after", "not a place");
    }
}
