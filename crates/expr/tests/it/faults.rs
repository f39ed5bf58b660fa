//! What the checker refuses, where, and with which remedy; and what it accepts.

use headwater_expr::{Expression, Scope, Type, Value, Variables};

fn scope() -> Scope {
    let data = Type::object([
        ("amount", Type::Number),
        ("note", Type::nullable(Type::Text)),
        ("items", Type::list(Type::object([("sku", Type::Text)]))),
        ("stock", Type::map(Type::Number)),
        ("at", Type::Text),
        ("free", Type::Any),
        ("open", Type::open_object([("known", Type::Bool)])),
    ]);
    let event = Type::object([("type", Type::Text), ("time", Type::Timestamp), ("data", data)]);
    Scope::new().with("event", event).with("row", Type::nullable(Type::object([("balance", Type::Number)])))
}

/// `expected` are lines of `FAULTY PART: message`, with `^` for a place without extent.
fn check(source: &str, expected: &[&str]) {
    let faults = Expression::compile(source, &scope()).expect_err(source);
    let faults: Vec<String> = faults
        .iter()
        .map(|fault| match &source[fault.range.clone()] {
            "" => format!("^{}: {}", fault.range.start, fault.message),
            part => format!("{part}: {}", fault.message),
        })
        .collect();
    assert_eq!(faults, expected, "{source}");
}

fn check_type(source: &str, expected: &str) {
    let expression =
        Expression::compile(source, &scope()).unwrap_or_else(|faults| panic!("{source}: {faults:?}"));
    assert_eq!(expression.result().to_string(), expected, "{source}");
}

#[test]
fn unknown_names_come_with_a_remedy() {
    check("evnt.type", &["evnt: unknown variable `evnt`; did you mean `event`?"]);
    check(
        "Pending",
        &[
            "Pending: unknown variable `Pending`; there is `event`, `row`; a text is written in quotes: 'Pending'",
        ],
    );
    check("event.data.amuont > 0", &["amuont: `event.data` has no field `amuont`; did you mean `amount`?"]);
    check("has(event.data.amuont)", &["amuont: `event.data` has no field `amuont`; did you mean `amount`?"]);
    check("event['typ']", &["'typ': `event` has no field `typ`; did you mean `type`?"]);
    check("event.data.items.all(i, i.skuu == '')", &["skuu: `i` has no field `skuu`; did you mean `sku`?"]);
    check("row.balanc", &["balanc: `row` has no field `balanc`; did you mean `balance`?"]);
    check("{'a': 1}.b", &["b: `{'a': 1}` has no field `b`; there is `a`"]);
    check("event.type.size", &["size: `event.type` is text, which has no fields"]);
    check("event.type.toLowerCase()", &["toLowerCase: unknown function `toLowerCase`"]);
    check("event.type.lowerAsci()", &["lowerAsci: unknown function `lowerAsci`; did you mean `lowerAscii`?"]);
    check("lengt(event.type)", &["lengt: unknown function `lengt`"]);
}

#[test]
fn calls_are_checked() {
    check("size()", &["size: `size` is called as size(text, list or map)"]);
    check("size('a', 'b')", &["size: `size` is called as size(text, list or map)"]);
    check("lowerAscii('a')", &["lowerAscii: `lowerAscii` is called as text.lowerAscii()"]);
    check("'a'.int()", &["int: `int` is called as int(number, text or timestamp)"]);
    check(
        "event.data.amount.size()",
        &[
            "event.data.amount: `size` takes text or list or map here, and this is a number; it is called as size(text, list or map)",
        ],
    );
    check(
        "event.type.contains(1)",
        &["1: `contains` takes text here, and this is a number; it is called as text.contains(part)"],
    );
    check("event.type.all(c, true)", &["event.type: a list or map is needed, and this is text"]);
    check("event.data.items.all(i)", &["all: it is called as list.all(x, condition of x)"]);
    check(
        "event.data.items.map(1, 2)",
        &[
            "1: a name for the element is needed here; it is called as list.map(x, value of x) or list.map(x, condition of x, value of x)",
        ],
    );
    check("event.data.items.filter(i, i.sku)", &["i.sku: true or false is needed, and this is text"]);
    check("has(event)", &["event: `has` takes a field, as in has(event.data.amount)"]);
    check("has()", &["has: `has` takes one field, as in has(event.data.amount)"]);
    check("event.type.matches('[a')", &["'[a': `[a` is not a regular expression: unclosed character class"]);
}

#[test]
fn operands_are_checked() {
    check(
        "event.type + 1",
        &[
            "event.type + 1: `+` does not take text and a number; string(…) makes text of a number, decimal(…) a number of text",
        ],
    );
    check(
        "event.data.amount == '5'",
        &[
            "event.data.amount == '5': `==` compares a number with text, which are never equal; string(…) makes text of a number, decimal(…) a number of text",
        ],
    );
    check(
        "event.data.at < event.time",
        &[
            "event.data.at < event.time: `<` does not take text and a timestamp; timestamp(…) makes a timestamp of text, string(…) text of a timestamp",
        ],
    );
    check(
        "(event.type) * (2 + 3)",
        &[
            "(event.type) * (2 + 3): `*` does not take text and a number; string(…) makes text of a number, decimal(…) a number of text",
        ],
    );
    check("null + 1", &["null + 1: `+` does not take null and a number"]);
    check("[1] < [2]", &["[1] < [2]: `<` does not take a list of number and a list of number"]);
    check("1 in ['a']", &["1 in ['a']: `in` looks for a number in a list of text, where it can't be; string(…) makes text of a number, decimal(…) a number of text".trim_end_matches("; string(…) makes text of a number, decimal(…) a number of text")]);
    check("-event.type", &["-event.type: `-` takes a number or duration, and this is text"]);
    check("!event.data.amount", &["event.data.amount: true or false is needed, and this is a number"]);
    check("event.type && true", &["event.type: true or false is needed, and this is text"]);
    check("event.type ? 1 : 2", &["event.type: true or false is needed, and this is text"]);
    check("event.type[0]", &["event.type: only lists and maps are indexed, and this is text"]);
    check("event.data.items['a']", &["'a': a list of object is indexed by number, and this is text"]);
    check("event.data.stock[1]", &["1: a map of number is indexed by text, and this is a number"]);
    check("{1: 'a'}", &["1: the keys of a map are text, and this is a number"]);
    check("{'a': 1, 'a': 2}", &["'a': the key `a` is there twice"]);
}

#[test]
fn constants_that_fail_are_faults() {
    check("1 / 0", &["1 / 0: 1 is divided by zero"]);
    check(
        "event.time + duration('10 parsecs')",
        &["duration('10 parsecs'): '10 parsecs' is not a length of time, such as '1h30m', '10s' or '250ms'"],
    );
    check(
        "timestamp('yesterday') < event.time",
        &["timestamp('yesterday'): 'yesterday' is not a moment in RFC 3339, such as '2026-01-31T12:00:00Z'"],
    );
    check("[1, 2][2]", &["[1, 2][2]: there is no element 2 in a list of 2"]);
    check("1e40", &["1e40: the number 1e40 does not fit in 28 digits, at most 28 of them after the point"]);
    check(
        "0.00000000000000000000000000001",
        &[
            "0.00000000000000000000000000001: the number 0.00000000000000000000000000001 does not fit in 28 digits, at most 28 of them after the point",
        ],
    );
    check("b'a'", &["b'a': there are no bytes here; leave out the `b` before the quote"]);
    check("Foo{a: 1}", &["{: there are no messages such as `Foo`; a map is written {'key': value}"]);
}

#[test]
fn all_faults_come_at_once_in_order() {
    check(
        "evnt.a > 0 && event.data.amuont + 'x' == siez(event.type) && event.type - 1 == 'é' + rwo.b",
        &[
            "evnt: unknown variable `evnt`; did you mean `event`?",
            "amuont: `event.data` has no field `amuont`; did you mean `amount`?",
            "siez: unknown function `siez`; did you mean `size`?",
            "event.type - 1: `-` does not take text and a number; string(…) makes text of a number, decimal(…) a number of text",
            "rwo: unknown variable `rwo`; did you mean `row`?",
        ],
    );
}

#[test]
fn syntax_is_explained() {
    check("", &["^0: the expression is empty; a text is written in quotes: ''"]);
    check(" ", &["^0: the expression is empty; a text is written in quotes: ''"]);
    check("1 +", &["^3: the expression ends too early"]);
    check("a b", &["b: `b` is unexpected here"]);
    check("event.type = 'a'", &["= : `=` is no operator; compare with `==`"]);
    check("event.type == 'a' and true", &["and: `and` is written `&&`"]);
    check("(1 + 2", &["^6: `)` is missing here"]);
    check(
        "'abc",
        &["'abc: the text that begins here has no closing quote in its line, or an unknown escape"],
    );
    check(
        r"'\q'",
        &[r"'\q: the text that begins here has no closing quote in its line, or an unknown escape"],
    );
    check("[1, 2", &["^5: the expression ends too early; `,` or `]` is expected"]);
    check("é", &["é: `é` can't stand in an expression outside of quotes"]);
    check("for", &["^0: `for` is a reserved word; a text is written in quotes"]);
    check(
        "12345678901234567890",
        &["^0: whole numbers beyond 64 bits are written with a point, as in 12345678901234567890.0"],
    );
    check("event.?type", &["^5: unsupported syntax '.?'"]);
}

#[test]
fn places_are_lines_and_characters() {
    let faults = Expression::compile("'é' + 'ü' == evnt.x ||\n  rwo.y", &scope()).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "column 14: unknown variable `evnt`; did you mean `event`?",
            "line 2, column 3: unknown variable `rwo`; did you mean `row`?",
        ]
    );
}

#[test]
fn sources_are_bounded() {
    let long = format!("'{}'", "x".repeat(4095));
    let faults = Expression::compile(&long, &scope()).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].message, "the expression has 4097 bytes, and at most 4096 are allowed; split it up");
    Expression::compile(&long[1..4096].replace('x', " ").replacen(' ', "1", 1), &scope()).unwrap();
}

#[test]
fn nesting_is_bounded_on_the_stack_of_any_thread() {
    let run = |source: String| {
        Expression::compile(&source, &scope()).map(|_| ()).map_err(|faults| faults[0].message.clone())
    };
    let nest = |open: &str, inner: &str, close: &str, count: usize| {
        run(format!("{}{inner}{}", open.repeat(count), close.repeat(count)))
    };
    let too_deep =
        |outcome: Result<(), String>| outcome.is_err_and(|message| message.contains("nested deeper than"));
    for count in [10, 90] {
        assert_eq!(nest("(", "1", ")", count), Ok(()));
        assert_eq!(nest("[", "1", "]", count), Ok(()));
    }
    assert_eq!(nest("", "1", " + 1", 150), Ok(()));
    assert_eq!(nest("", "event.data.free", ".a", 150), Ok(()));
    assert_eq!(nest("", "true", " && true", 400), Ok(()));
    assert_eq!(nest("!", "true", "", 4000), Ok(()));
    assert!(too_deep(nest("(", "1", ")", 2000)));
    assert!(too_deep(nest("[", "1", "]", 2000)));
    assert!(too_deep(nest("{'a': ", "1", "}", 500)));
    assert!(too_deep(nest("size(", "1", ")", 600)));
    assert!(too_deep(nest("true ? 1 : ", "1", "", 300)));
    assert!(too_deep(nest("", "1", "+1", 2040)));
    assert!(too_deep(nest("", "event", ".a", 2040)));
    assert!(too_deep(nest("", "event", "[0]", 1300)));
    assert!(too_deep(nest("", "1", "<1", 2040)));
    assert!(too_deep(nest("", "[1]", ".map(x,x)", 400)));
}

#[test]
fn the_deepest_expressions_are_evaluated_on_a_small_stack() {
    let run = |source: String| {
        let scope = Scope::new().with("l", Type::Any);
        let expression =
            Expression::compile(&source, &scope).unwrap_or_else(|faults| panic!("{source}: {faults:?}"));
        let evaluating = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
            let json = [b"[".repeat(128), b"]".repeat(128)].concat();
            let variables = Variables::new().with("l", Value::parse_json(&json).unwrap());
            expression
                .evaluate(&variables)
                .map(|value| value == value.clone().into_owned())
                .map_err(|error| error.message)
        });
        evaluating.unwrap().join().expect("the stack is large enough")
    };
    assert_eq!(run(format!("size(l){}", " + size(l)".repeat(190))), Ok(true));
    assert_eq!(run(format!("{}l{}", "l.map(x, ".repeat(90), ")".repeat(90))), Ok(true));
    assert_eq!(run(format!("{}l{}", "[".repeat(90), "]".repeat(90))), Ok(true));
    assert_eq!(run(format!("l{}", "[0]".repeat(127))), Ok(true));
}

#[test]
fn types_are_inferred_as_far_as_they_are_known() {
    check_type("event.data.amount * 2", "number");
    check_type("event.data.note", "text or null");
    check_type("event.data.note + 'x'", "text");
    check_type("event.data.free", "anything");
    check_type("event.data.free + 1", "number");
    check_type("event.data.free.x.y == 1 && event.data.open.what > event.data.open.ever", "bool");
    check_type("event.data.items.map(i, i.sku)", "list of text");
    check_type("event.data.items.filter(i, i.sku != '')", "list of object");
    check_type("event.data.stock.filter(k, event.data.stock[k] > 1)", "list of text");
    check_type("event.data.stock['x'] + event.data.stock.y", "number");
    check_type("event.time - event.time", "duration");
    check_type("event.time + duration('1h')", "timestamp");
    check_type("row.balance + 1", "number");
    check_type("row == null ? 0 : row.balance", "number");
    check_type("true ? 'a' : null", "text or null");
    check_type("true ? 'a' : 1", "anything");
    check_type("[1, 'a']", "list");
    check_type("'a,b'.split(',')", "list of text");
    check_type("max(1, event.data.amount)", "number");
    check_type("[event.time].max()", "timestamp");
    check_type("{'a': 1}", "object");
    check_type("event.data.note == null || event.data.amount != null", "bool");
    check_type("'a' in event.data.stock", "bool");
    check_type("event.data.free in [1, 2]", "bool");
    check_type("type(event.data.free) == string", "bool");
    check_type("event.data.note in ['a']", "bool");
}

#[test]
fn a_wanted_result_is_checked() {
    let compile = |source: &str, wanted: &Type| {
        let compiled = Expression::compile_as(source, &scope(), wanted);
        compiled.map(|_| ()).map_err(|faults| faults[0].message.clone())
    };
    assert_eq!(compile("event.data.amount > 0", &Type::Bool), Ok(()));
    assert_eq!(compile("event.data.free", &Type::Bool), Ok(()));
    assert_eq!(compile("event.data.note", &Type::Text), Ok(()));
    assert_eq!(compile("null", &Type::nullable(Type::Text)), Ok(()));
    assert_eq!(
        compile("event.data.amount", &Type::Text),
        Err("the result must be text, and this is a number; string(…) makes text of a number, decimal(…) a number of text".to_owned())
    );
    assert_eq!(compile("null", &Type::Text), Err("the result must be text, and this is null".to_owned()));
}
