//! JSON in and out.

use headwater_expr::{Numbers, Value};

/// Reads `json` and writes it again.
fn check(json: &str, expected: &str) {
    let read = Value::parse_json(json.as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"));
    assert_eq!(read.to_json(Numbers::Exact), expected, "{json}");
    assert_eq!(read.clone().into_owned(), read, "{json}");
}

fn check_error(json: &[u8], offset: usize, message: &str) {
    let error = Value::parse_json(json).expect_err(&String::from_utf8_lossy(json));
    assert_eq!(
        (error.offset, error.message.as_str()),
        (offset, message),
        "{}",
        String::from_utf8_lossy(json)
    );
}

#[test]
fn numbers_are_kept_exactly() {
    for number in [
        "0",
        "-1",
        "59.70",
        "0.1",
        "9007199254740993",
        "18446744073709551616",
        "0.30000000000000000000000004",
        "79228162514264337593543950335",
        "-79228162514264337593543950335",
        "0.0000000000000000000000000001",
        "1.000",
    ] {
        check(number, number);
    }
    check("-0", "0");
    check("-0.0", "0.0");
    check("1e3", "1000");
    check("1.5E+2", "150");
    check("25e-1", "2.5");
    check("1e28", "10000000000000000000000000000");
    check("1e-28", "0.0000000000000000000000000001");
    check("0e999999999999999999999", "0");
    check("1.0000000000000000000000000000000000000000", "1");
    check("100000000000000000000000000000000000000e-20", "1000000000000000000");
    check("0.00000000000000000000000000000000001e10", "0.0000000000000000000000001");
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let refused = |number: &str| {
        format!(
            "the number {number} does not fit in an exact decimal (28 digits, at most 28 after the point); write it as a string"
        )
    };
    for number in [
        "79228162514264337593543950336",
        "1e29",
        "1e-29",
        "1.23456789012345678901234567890123",
        "1e99999999999999999999",
    ] {
        check_error(format!("[{number}]").as_bytes(), number.len() + 1, &refused(number));
    }
}

#[test]
fn text_is_read() {
    check(r#""plain""#, r#""plain""#);
    check(r#""\"\\\/\b\f\n\r\t\u0041""#, "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\tA\"");
    check(r#""\ud83d\ude00 é""#, "\"😀 é\"");
    check_error(br#""\ud83d""#, 7, "expected low surrogate");
    check_error(br#""\ud83dx""#, 7, "expected low surrogate");
    check_error(br#""\ude00""#, 7, "invalid character with index 56832");
    check_error(br#""\x""#, 3, "invalid escape character x");
    check_error(b"\"a\xff\"", 3, "invalid utf-8 sequence of 1 bytes from index 1");
    check_error(b"\"a\nb\"", 3, "invalid string control character");
    check_error(b"\"abc", 4, "unterminated string");
}

#[test]
fn structures_keep_their_order() {
    check(r#" { "b" : [ 1 , true , null ] , "a" : { } } "#, r#"{"b":[1,true,null],"a":{}}"#);
    check("[]", "[]");
    let names: Vec<String> = (0..40).rev().map(|n| format!("\"k{n}\":{n}")).collect();
    let json = format!("{{{}}}", names.join(","));
    check(&json, &json);
    let value = Value::parse_json(json.as_bytes()).unwrap();
    assert_eq!(value.field("k17"), Some(Value::from(17_i64)));
    assert_eq!(value.field("k40"), None);
}

#[test]
fn of_equal_keys_the_last_wins_in_the_place_of_the_first() {
    check(r#"{"a":1,"b":2,"a":3,"\u0061":4}"#, r#"{"a":4,"b":2}"#);
    let many: Vec<String> = (0..60).map(|n| format!("\"k{}\":{n}", n % 20)).collect();
    let expected: Vec<String> = (0..20).map(|n| format!("\"k{n}\":{}", n + 40)).collect();
    check(&format!("{{{}}}", many.join(",")), &format!("{{{}}}", expected.join(",")));
    let same: Vec<String> = (0..60).map(|n| format!("\"k\":{n}")).collect();
    check(&format!("{{{}}}", same.join(",")), r#"{"k":59}"#);
}

#[test]
fn what_is_not_json_is_refused_with_its_place() {
    check_error(b"", 0, "value expected");
    check_error(b"  ", 2, "value expected");
    check_error(b"1 2", 2, "something follows the value");
    check_error(b"01", 1, "something follows the value");
    check_error(b"{} x", 3, "something follows the value");
    check_error(b"[1,]", 3, "value expected");
    check_error(b"[1 2]", 3, "comma or end of sequence expected");
    check_error(b"{\"a\" 1}", 5, "colon expected");
    check_error(b"{a:1}", 1, "string expected");
    check_error(b"{\"a\":}", 5, "value expected");
    check_error(b"nul", 1, "value expected");
    check_error(b"NaN", 0, "value expected");
    check_error(b"-", 1, "expected digit");
    check_error(b"1.", 2, "expected digit");
    check_error(b"+1", 0, "value expected");
    check_error(b"[", 1, "value or end of sequence expected");
    check_error(b"\xef\xbb\xbf{}", 0, "value expected");
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    assert!(Value::parse_json(&nested(128)).is_ok());
    check_error(&nested(129), 128, "nested deeper than 128");
    let objects = br#"{"a":"#.repeat(100_000);
    assert_eq!(Value::parse_json(&objects).unwrap_err().message, "nested deeper than 128");
}

#[test]
fn numbers_are_text_when_asked_for() {
    let value = Value::parse_json(br#"{"n":59.70,"l":[1],"t":"x"}"#).unwrap();
    assert_eq!(value.to_json(Numbers::Text), r#"{"n":"59.70","l":["1"],"t":"x"}"#);
    assert_eq!(value.to_string(), r#"{"n":59.70,"l":[1],"t":"x"}"#);
}

#[test]
fn what_serde_json_read_is_taken_over() {
    let read: serde_json::Value =
        serde_json::from_str(r#"{"i":-5,"u":18446744073709551615,"f":0.1,"e":1e3,"s":"x","l":[null,true]}"#)
            .unwrap();
    let value = Value::try_from(&read).unwrap();
    assert_eq!(
        value.to_json(Numbers::Exact),
        r#"{"i":-5,"u":18446744073709551615,"f":0.1,"e":1000.0,"s":"x","l":[null,true]}"#
    );
    let large = serde_json::json!([1e300]);
    assert!(Value::try_from(&large).unwrap_err().message.contains("does not fit"));
}
