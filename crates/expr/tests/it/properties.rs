//! What holds for all inputs.

use headwater_expr::{Decimal, Expression, Numbers, Scope, Template, Type, Value, Variables};
use proptest::prelude::*;

fn scope() -> Scope {
    Scope::new().with("event", Type::Any).with("a", Type::Number).with("b", Type::Number)
}

fn evaluate(source: &str, a: Decimal, b: Decimal) {
    let Ok(expression) = Expression::compile(source, &scope()) else { return };
    let event = Value::parse_json(br#"{"n": 1.5, "t": "x", "l": [1, "a", null], "m": {"k": true}}"#).unwrap();
    let variables = Variables::new().with("event", event).with("a", a).with("b", b);
    match expression.evaluate(&variables) {
        Ok(value) => drop(value.to_json(Numbers::Exact)),
        Err(error) => assert_eq!(&source[error.range.clone()], error.expression),
    }
}

fn decimals() -> impl Strategy<Value = Decimal> {
    let mantissa = prop_oneof![-1000_i128..1000, -(1_i128 << 96) + 1..1 << 96];
    (mantissa, 0_u32..=28).prop_map(|(mantissa, scale)| Decimal::from_i128_with_scale(mantissa, scale))
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value as Json;
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        "\\PC{0,8}|[\\x00-\\x7f]{0,8}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 64, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Json::from),
            prop::collection::hash_map("[a-z]{0,3}", inner, 0..20)
                .prop_map(|entries| Json::Object(entries.into_iter().collect())),
        ]
    })
}

/// Pieces of expressions in any order: mostly wrong, often nearly right.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "event",
        ".n",
        ".t",
        ".l",
        ".m",
        ".k",
        "a",
        "b",
        "1",
        "-2.50",
        "0",
        "'x'",
        "\"é\"",
        "true",
        "null",
        "+",
        "-",
        "*",
        "/",
        "%",
        "==",
        "!=",
        "<",
        ">=",
        "&&",
        "||",
        "!",
        "?",
        ":",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        "in",
        "has(",
        "size(",
        ".all(x,",
        ".map(x,",
        ".exists(x,",
        ".filter(x,",
        "x",
        ".matches('",
        ".split(",
        ".substring(",
        "round(",
        "int(",
        "string(",
        "timestamp(",
        "duration('1h')",
        ".getHours()",
        "type(",
        "min(",
        "//",
        "\n",
        "r'",
        "'''",
        "\\",
    ]);
    prop::collection::vec(piece, 1..24).prop_map(|pieces| pieces.join(" "))
}

/// Expressions that parse, of any types.
fn expressions() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "event",
        "event.n",
        "event.t",
        "event.l",
        "event.m",
        "event.m.k",
        "event.nope",
        "a",
        "b",
        "0",
        "7",
        "2.50",
        "'x'",
        "''",
        "true",
        "null",
        "[1, 2]",
        "{'k': 1}",
        "duration('90s')",
        "timestamp(0)",
        "x",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let binary = prop::sample::select(vec![
            "+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "in",
        ]);
        let unary = prop::sample::select(vec![
            "-(@)",
            "!(@)",
            "size(@)",
            "string(@)",
            "int(@)",
            "decimal(@)",
            "dyn(@).t",
            "type(@)",
            "round(@, 2)",
            "[@][0]",
            "{'a': @}.a",
            "has(event.l) ? (@) : 1",
            "timestamp(@)",
            "dyn(@).split('')",
            "dyn(@).reverse()",
            "min(@, a)",
            "dyn(@).sum()",
            "dyn(@).getMonth()",
            "dyn(@).join('é')",
            "dyn(@)[0]",
            "dyn(@)['k']",
            "bool(@)",
            "abs(@)",
        ]);
        let turns = prop::sample::select(vec!["all", "exists", "exists_one", "filter", "map"]);
        prop_oneof![
            (inner.clone(), binary, inner.clone())
                .prop_map(|(left, op, right)| format!("({left}) {op} ({right})")),
            (unary, inner.clone()).prop_map(|(form, part)| form.replace('@', &part)),
            (inner.clone(), turns, inner)
                .prop_map(|(range, turn, body)| format!("dyn({range}).{turn}(x, dyn({body}))")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_source_makes_the_compiler_panic(source in "\\PC{0,40}|[\\x00-\\x7f]{0,40}", a in decimals(), b in decimals()) {
        evaluate(&source, a, b);
        let _ = Template::compile(&source, &scope());
    }

    #[test]
    fn no_pieces_make_the_compiler_panic(source in pieces(), a in decimals(), b in decimals()) {
        evaluate(&source, a, b);
        let _ = Template::compile(&format!("${{{source}}}${{"), &scope());
    }

    #[test]
    fn no_expression_makes_the_evaluator_panic(source in expressions(), a in decimals(), b in decimals()) {
        evaluate(&source, a, b);
    }

    #[test]
    fn arithmetic_is_that_of_decimals(a in decimals(), b in decimals()) {
        for (source, expected) in [
            ("a + b", a.checked_add(b)),
            ("a - b", a.checked_sub(b)),
            ("a * b", a.checked_mul(b)),
            ("a / b", a.checked_div(b)),
            ("a % b", a.checked_rem(b)),
            ("-a", Some(-a)),
        ] {
            let expression = Expression::compile(source, &scope()).unwrap();
            let variables = Variables::new().with("event", Value::Null).with("a", a).with("b", b);
            prop_assert_eq!(expression.evaluate(&variables).ok().and_then(|value| value.as_number()), expected, "{}", source);
        }
        let compare = Expression::compile("[a < b, a == b, a > b]", &scope()).unwrap();
        let variables = Variables::new().with("event", Value::Null).with("a", a).with("b", b);
        let expected = Value::list([a < b, a == b, a > b].map(Value::Bool));
        prop_assert_eq!(compare.evaluate(&variables).unwrap(), expected);
    }

    #[test]
    fn literals_are_what_is_written(value in decimals().prop_filter("whole literals end at 64 bits", |value| value.scale() > 0)) {
        let source = value.to_string();
        let expression = Expression::compile(&source, &scope()).unwrap();
        prop_assert_eq!(expression.constant(), Some(&Value::from(value)));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = Value::parse_json(&bytes);
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it(json in json()) {
        let text = json.to_string();
        let read = Value::parse_json(text.as_bytes()).unwrap();
        prop_assert_eq!(&read, &Value::try_from(&json).unwrap());
        let written = read.to_json(Numbers::Exact);
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), json);
    }

    #[test]
    fn numbers_survive_json(value in decimals()) {
        let text = value.to_string();
        let read = Value::parse_json(text.as_bytes()).unwrap();
        prop_assert_eq!(read.as_number(), Some(value));
    }
}
