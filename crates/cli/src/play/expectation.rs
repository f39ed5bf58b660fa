//! What must hold of an answer.

use serde_json::{Number, Value};

use super::answer::{Answer, Place};

/// A condition on an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expectation {
    /// As it was written.
    pub(crate) text: String,
    place: Place,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Equal(Value),
    NotEqual(Value),
    Contains(Value),
    Exists,
    Absent,
}

impl Expectation {
    /// Reads one, for example `body.status == "Approved"`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (place, rest) = Place::parse(text)?;
        let rest = rest.trim();
        let (operator, operand) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let operand = operand.trim();
        let value = || {
            serde_json::from_str::<Value>(operand).map_err(|error| {
                format!("{operand:?} is no JSON value ({error}); text goes in quotes, as in \"Approved\"")
            })
        };
        let test = match (&place, operator) {
            (_, "==") => Test::Equal(value()?),
            (_, "!=") => Test::NotEqual(value()?),
            (_, "contains") => Test::Contains(value()?),
            (_, "exists") if operand.is_empty() => Test::Exists,
            (_, "absent") if operand.is_empty() => Test::Absent,
            (Place::Status, status) if operand.is_empty() && status.parse::<u16>().is_ok() => {
                Test::Equal(status.parse::<u16>().unwrap_or_default().into())
            }
            _ => {
                return Err(format!(
                    "{rest:?} is no condition; give == VALUE, != VALUE, contains VALUE, exists, or absent"
                ));
            }
        };
        Ok(Self { text: text.to_owned(), place, test })
    }

    /// Whether it holds of `answer`; if not, what is there instead.
    pub(crate) fn check(&self, answer: &Answer) -> Result<(), String> {
        let found = self.place.of(answer);
        let holds = match (&self.test, &found) {
            (Test::Equal(wanted), Some(found)) => equal(wanted, found),
            (Test::NotEqual(wanted), Some(found)) => !equal(wanted, found),
            (Test::Contains(Value::String(part)), Some(Value::String(text))) => text.contains(part.as_str()),
            (Test::Contains(wanted), Some(Value::Array(items))) => {
                items.iter().any(|item| equal(wanted, item))
            }
            (Test::Exists, found) => found.is_some(),
            (Test::Absent, found) => found.is_none(),
            _ => false,
        };
        if holds {
            return Ok(());
        }
        Err(found.map_or_else(|| "nothing is there".to_owned(), |found| found.to_string()))
    }
}

/// JSON's equality: numbers by value, members in any order.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => same(left, right),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| equal(value, other)))
        }
        _ => left == right,
    }
}

/// `1.0` and `1` are one number; whole numbers are compared as they are, whatever a double can hold.
fn same(left: &Number, right: &Number) -> bool {
    left == right || ((left.is_f64() || right.is_f64()) && left.as_f64() == right.as_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Answer {
        Answer {
            status: 201,
            headers: vec![("location".to_owned(), "/orders/1".to_owned())],
            body: json!({"status": "Approved", "amount": 1.0, "n": 3, "tags": ["a", {"b": 1, "c": 2}], "none": null}),
        }
    }

    #[test]
    fn conditions_hold_or_say_what_is_there() {
        #[track_caller]
        fn check(text: &str, expected: Result<(), &str>) {
            let found = Expectation::parse(text).unwrap().check(&answer());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
        check("status 201", Ok(()));
        check("status == 201", Ok(()));
        check("status 200", Err("201"));
        check("status != 500", Ok(()));
        check("body.status == \"Approved\"", Ok(()));
        check("body.status == \"Rejected\"", Err("\"Approved\""));
        check("body.status contains \"prov\"", Ok(()));
        check("body.amount == 1", Ok(()));
        check("body.n == \"3\"", Err("3"));
        check("body.tags contains \"a\"", Ok(()));
        check("body.tags[1] == {\"c\": 2, \"b\": 1}", Ok(()));
        check("body.tags contains {\"c\": 2, \"b\": 1.0}", Ok(()));
        check("body.tags contains \"z\"", Err("[\"a\",{\"b\":1,\"c\":2}]"));
        check("body.none exists", Ok(()));
        check("body.none == null", Ok(()));
        check("body.more exists", Err("nothing is there"));
        check("body.more != 1", Err("nothing is there"));
        check("body.more absent", Ok(()));
        check("body.none absent", Err("null"));
        check("header.location == \"/orders/1\"", Ok(()));
    }

    #[test]
    fn large_whole_numbers_differ_by_one() {
        let (one, other) = (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64));
        assert!(!equal(&one, &other));
        assert!(equal(&one, &one));
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["status", "status ok", "body.a = 1", "body.a == Approved", "body.a exists not", "body.a"]
        {
            assert!(Expectation::parse(text).is_err(), "{text}");
        }
    }
}
