//! What expressions give.

use headwater_expr::{EvaluationError, Expression, Numbers, Object, Scope, Type, Value, Variables};
use jiff::Timestamp;

/// An event as `headwater` hands it over: its columns are fields, its data is JSON.
#[derive(Debug)]
struct Event {
    data: Value<'static>,
    time: Timestamp,
}

impl Object for Event {
    fn field(&self, name: &str) -> Option<Value<'_>> {
        Some(match name {
            "type" => Value::from("OrderCreated"),
            "version" => Value::from(3_u64),
            "time" => self.time.into(),
            "data" => self.data.clone(),
            _ => return None,
        })
    }

    fn names(&self) -> &[&str] {
        &["type", "version", "time", "data", "absent"]
    }
}

const DATA: &[u8] = br#"{
    "order_id": "order-1", "amount": 59.70, "price": 19.90, "count": 3, "big": 9007199254740993, "nothing": null,
    "paid": false, "note": "a \"quoted\" caf\u00e9", "items": [{"sku": "a", "price": 1.10}, {"sku": "b", "price": 2.20}],
    "stock": {"x": 1, "y": 2}, "at": "2026-01-31T12:00:00Z", "tags": ["red", "green"]
}"#;

fn run(source: &str) -> Result<String, EvaluationError> {
    let event =
        Event { data: Value::parse_json(DATA).unwrap(), time: "2026-07-04T23:30:15.250Z".parse().unwrap() };
    let scope = Scope::new().with("event", Type::Any).with("row", Type::Any);
    let expression =
        Expression::compile(source, &scope).unwrap_or_else(|faults| panic!("{source}: {faults:?}"));
    let variables = Variables::new().with("event", &event as &dyn Object).with("row", Value::Null);
    expression.evaluate(&variables).map(|value| value.to_json(Numbers::Exact))
}

fn check(source: &str, expected: &str) {
    assert_eq!(run(source).as_deref(), Ok(expected), "{source}");
}

fn check_failure(source: &str, part: &str, message: &str) {
    let error = run(source).expect_err(source);
    assert_eq!((error.expression.as_str(), error.message.as_str()), (part, message), "{source}");
    assert_eq!(&source[error.range], part, "{source}");
}

#[test]
fn numbers_are_exact_decimals() {
    check("0.1 + 0.2 == 0.3", "true");
    check("0.1 + 0.2", "0.3");
    check("19.90 * 3 == 59.70", "true");
    check("event.data.price * event.data.count", "59.70");
    check("event.data.price * event.data.count == event.data.amount", "true");
    check("event.data.big", "9007199254740993");
    check("event.data.big + 1", "9007199254740994");
    check("9223372036854775807 + 1", "9223372036854775808");
    check("-9223372036854775808 - 1", "-9223372036854775809");
    check("12345678901234567890.5 * 2", "24691357802469135781.0");
    check("7 / 2", "3.5");
    check("6 / 3", "2");
    check("event.data.amount / 3", "19.90");
    check("10.00 / 8", "1.25");
    check("79228162514264337593543950.335 / 0.1", "792281625142643375935439503.35");
    check("3-1 + 3 -1 - -1", "5");
    check("0.10 + 0.20", "0.30");
    check("7 % 2", "1");
    check("-7 % 2", "-1");
    check("7.5 % 2", "1.5");
    check("1 / 3", "0.3333333333333333333333333333");
    check("2 / 3", "0.6666666666666666666666666667");
    check("1 == 1.0 && 1u == 1 && 0x1F == 31 && 1e3 == 1000 && .5 == 0.5", "true");
    check("2 < 10 && 2.5 <= 2.50 && -1 < 0", "true");
    check("- event.data.amount", "-59.70");
    check("-0", "0");
    check("0 * -1", "0");
    check("1 - 0.9", "0.1");
    check("event.data.amount == 59.7", "true");
}

#[test]
fn numbers_that_have_no_result_are_errors() {
    check_failure("event.data.count / 0", "event.data.count / 0", "3 is divided by zero");
    check_failure("event.data.count % (1 - 1)", "event.data.count % (1 - 1)", "3 is divided by zero");
    check_failure(
        "event.data.count * 79228162514264337593543950335.0",
        "event.data.count * 79228162514264337593543950335.0",
        "the result of 3 * 79228162514264337593543950335 does not fit in 28 digits",
    );
}

#[test]
fn numbers_are_converted() {
    check("int(2.9) + int(-2.9)", "0");
    check("int('42') + int('-7')", "35");
    check("int(event.data.big)", "9007199254740993");
    check("double('1.10')", "1.10");
    check("decimal('1e2')", "100");
    check("uint(3)", "3");
    check("string(19.90)", "\"19.90\"");
    check("string(-0.5) + string(true)", "\"-0.5true\"");
    check("bool('true') && !bool('false')", "true");
    check("round(2.5) == 3 && round(-2.5) == -3 && round(2.345, 2) == 2.35", "true");
    check("abs(-3) + floor(2.7) + ceil(2.1)", "8");
    check("max(1, 3, 2) - min(1, 3, 2, 9, 8)", "2");
    check("[3, 1, 2].max() + [3, 1, 2].min() + [3, 1, 2].sum()", "10");
    check("[].sum()", "0");
    check("event.data.items.map(i, i.price).sum() == 3.3", "true");
    check("[1, 2].isSorted() && ![2, 1].isSorted()", "true");
    check_failure("int('2.5' + row)", "'2.5' + row", "`+` does not take text and null");
    check_failure("uint(-event.data.count)", "uint(-event.data.count)", "-3 is below zero");
    check_failure(
        "decimal(event.data.order_id)",
        "decimal(event.data.order_id)",
        "'order-1' is not a number of at most 28 digits, such as '12.50'",
    );
}

#[test]
fn fields_are_read() {
    check("event.type", "\"OrderCreated\"");
    check("event.version", "3");
    check("event.data.order_id", "\"order-1\"");
    check("event['data']['order_id']", "\"order-1\"");
    check("event.data['order' + '_id']", "\"order-1\"");
    check("event.data.items[1].sku", "\"b\"");
    check("event.data.items[event.data.count - 2].price", "2.20");
    check("event.data.note", "\"a \\\"quoted\\\" café\"");
    check("event.data.stock", "{\"x\":1,\"y\":2}");
    check("{'a': {'b-c': 1}}.a.`b-c`", "1");
    check("has(event.data.amount) && !has(event.data.amuont) && has(event.data.nothing)", "true");
    check("has(event.type) && !has(event.absent)", "true");
    check("has(event.data['amount'])", "true");
    check("'x' in event.data.stock && !('z' in event.data.stock) && 'type' in event", "true");
    check("row == null && event.data.nothing == null && event != null", "true");
    check("row == null ? 'new' : row.status", "\"new\"");
}

#[test]
fn missing_fields_are_named() {
    check_failure(
        "event.data.amuont + 1",
        "event.data.amuont",
        "there is no field `amuont` in `event.data`; did you mean `amount`?",
    );
    check_failure(
        "event.data.stock.price",
        "event.data.stock.price",
        "there is no field `price` in `event.data.stock`; there is `x`, `y`",
    );
    check_failure(
        "event.typ == 'a'",
        "event.typ",
        "there is no field `typ` in `event`; did you mean `type`?",
    );
    check_failure(
        "row.status",
        "row.status",
        "`row` is null, so it has no field `status`; guard with `row != null &&`",
    );
    check_failure(
        "event.data.amount.x",
        "event.data.amount.x",
        "`event.data.amount` is a number, which has no fields",
    );
    check_failure("event.data.items[2]", "event.data.items[2]", "there is no element 2 in a list of 2");
    check_failure("event.data.items[0.5]", "event.data.items[0.5]", "there is no element 0.5 in a list of 2");
    check_failure(
        "event.data.items['a']",
        "event.data.items['a']",
        "`event.data.items` is a list, which has no fields",
    );
    check_failure("event.data.stock[1]", "1", "the keys of a map are text, and this is a number");
    check_failure(
        "event.data.amount[0]",
        "event.data.amount",
        "only lists and maps are indexed, and this is a number",
    );
    check_failure("has(row.a)", "row", "this is null, which has no fields");
}

#[test]
fn and_or_and_conditions_look_no_further_than_needed() {
    check("true || event.nope", "true");
    check("event.nope || true", "true");
    check("event.nope && false", "false");
    check("false && event.nope", "false");
    check("true ? 1 : event.nope", "1");
    check("!event.data.paid", "true");
    check("!!event.data.paid", "false");
    check("event.data.paid ? 1 : event.data.count > 2 ? 2 : 3", "2");
    check_failure(
        "event.nope || false",
        "event.nope",
        "there is no field `nope` in `event`; there is `data`, `time`, `type`, `version`",
    );
    check_failure(
        "event.data.count || false",
        "event.data.count",
        "true or false is needed, and this is a number",
    );
    check_failure("event.data.note ? 1 : 2", "event.data.note", "true or false is needed, and this is text");
}

#[test]
fn equality_goes_by_value_and_type() {
    check("event.data.amount == '59.70'", "false");
    check("event.data.tags == ['red', 'green']", "true");
    check("event.data.stock == {'y': 2.0, 'x': 1}", "true");
    check("event.data.items[0] == {'sku': 'a', 'price': 1.1}", "true");
    check("event.data != event.data.stock", "true");
    check("event == event", "true");
    check("'abc' < 'abd' && 'B' < 'a' && false < true", "true");
    check_failure(
        "event.data.amount < event.type",
        "event.data.amount < event.type",
        "`<` does not take a number and text",
    );
    check_failure("row + 1", "row + 1", "`+` does not take null and a number");
}

#[test]
fn text_has_its_functions() {
    check("'a' + 'b'", "\"ab\"");
    check("size('héllo') == 5 && 'héllo'.size() == 5", "true");
    check("'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')", "true");
    check("'order-17'.matches('^order-[0-9]+$') && event.type.matches('Created')", "true");
    check("matches(event.type, 'Order' + '.*')", "true");
    check("'Héllo'.lowerAscii() + 'héllo'.upperAscii()", "\"hélloHéLLO\"");
    check("'  x '.trim()", "\"x\"");
    check("'a,b,c'.split(',')", r#"["a","b","c"]"#);
    check("'a,b,c'.split(',', 2)", r#"["a","b,c"]"#);
    check("'a,b,c'.split(',', 0)", "[]");
    check("'a,b,c'.split(',', -1)", r#"["a","b","c"]"#);
    check("'aé'.split('')", r#"["a","é"]"#);
    check("'abc'.split('', 2)", r#"["a","bc"]"#);
    check("['a', 'b'].join('-') + ['c', 'd'].join()", "\"a-bcd\"");
    check("'banana'.replace('a', 'o') + 'banana'.replace('a', 'o', 1)", "\"bononobonana\"");
    check("'héllo'.substring(1) + 'héllo'.substring(0, 2)", "\"éllohé\"");
    check("'héllo'.charAt(1) + 'a'.charAt(1)", "\"é\"");
    check("'héllo'.indexOf('l')", "2");
    check("'héllo'.indexOf('l', 3) + 'hello'.lastIndexOf('l') + 'a'.indexOf('b')", "5");
    check("[1, 2, 1].indexOf(1) + [1, 2, 1].lastIndexOf(1) + [1].indexOf(2)", "1");
    check("'abc'.reverse()", "\"cba\"");
    check(r#""tab\tA\u00e9" + r'\d' + '''it's'''"#, r#""tab\tAé\\dit's""#);
    check_failure(
        "'abc'.substring(event.data.count, 1)",
        "'abc'.substring(event.data.count, 1)",
        "the end of a substring can't be before its beginning",
    );
    check_failure(
        "'abc'.substring(event.data.big)",
        "'abc'.substring(event.data.big)",
        "there is no position 9007199254740993 in a text of 3 characters",
    );
    check_failure(
        "event.data.amount.contains('a')",
        "event.data.amount.contains('a')",
        "text is needed, and this is a number",
    );
    check_failure(
        "event.data.count.matches('a')",
        "event.data.count",
        "text is needed, and this is a number",
    );
}

#[test]
fn macros_go_through_lists_and_keys() {
    check("event.data.items.all(i, i.price > 1)", "true");
    check("event.data.items.exists(i, i.sku == 'b')", "true");
    check("event.data.items.exists_one(i, i.price > 2) && [1, 1].existsOne(i, i == 1) == false", "true");
    check("event.data.items.filter(i, i.price > 2).map(i, i.sku)", r#"["b"]"#);
    check("event.data.items.map(i, i.price > 2, i.sku)", r#"["b"]"#);
    check("event.data.stock.map(k, k + '=' + string(event.data.stock[k]))", r#"["x=1","y=2"]"#);
    check("event.data.stock.all(k, event.data.stock[k] > 0)", "true");
    check("event.filter(name, name.startsWith('t'))", r#"["type","time"]"#);
    check("[[1, 2], [3]].map(l, l.map(n, n * 10))", "[[10,20],[30]]");
    check("[1, 2].map(x, [3].map(y, x + y)[0])", "[4,5]");
    check("[1].map(event, event + 1)", "[2]");
    check("[].all(x, x.nope) && ![].exists(x, x.nope)", "true");
    check("event.data.items.exists(i, i.nope == 1 || i.sku == 'b')", "true");
    check("[0, 2].exists(x, 1 / x < 1)", "true");
    check("[0, 2].all(x, 1 / x > 1)", "false");
    check_failure("[0, 1].all(x, 1 / x == 1)", "1 / x", "1 is divided by zero");
    check_failure(
        "event.data.amount.all(x, true)",
        "event.data.amount",
        "a list or map is needed, and this is a number",
    );
    check_failure(
        "event.data.items.filter(i, i.price)",
        "i.price",
        "true or false is needed, and this is a number",
    );
}

#[test]
fn collections_are_built() {
    check("[1, 'a', null, [true], {}]", r#"[1,"a",null,[true],{}]"#);
    check("[1] + [2, 3]", "[1,2,3]");
    check("{'id': event.data.order_id, 'n': 1 + 1}", r#"{"id":"order-1","n":2}"#);
    check("{event.data.order_id: 1}", r#"{"order-1":1}"#);
    check("size([1, 2]) + size({'a': 1}) + event.data.tags.size()", "5");
    check("'a' in ['a', 'b'] && !(3 in [1, 2]) && 1.0 in [1]", "true");
    check_failure("{event.type: 1, event.type: 2}", "event.type", "the key `OrderCreated` is there twice");
}

#[test]
fn time_has_its_functions() {
    check("event.time", "\"2026-07-04T23:30:15.25Z\"");
    check("timestamp(event.data.at) < event.time", "true");
    check("event.time - timestamp('2026-07-04T23:00:00Z')", "\"1815.25s\"");
    check("timestamp('2026-01-31T12:00:00+02:00') + duration('1h30m')", "\"2026-01-31T11:30:00Z\"");
    check("duration('90s') == duration('1m30s') && duration('1.5h') > duration('250ms')", "true");
    check("-duration('1m') + duration('0')", "\"-60s\"");
    check("timestamp(0)", "\"1970-01-01T00:00:00Z\"");
    check("timestamp(1.5)", "\"1970-01-01T00:00:01.5Z\"");
    check("int(timestamp('1970-01-01T00:01:00Z'))", "60");
    check("string(duration('1h')) + string(timestamp(0))", "\"3600s1970-01-01T00:00:00Z\"");
    check("[event.time.getFullYear(), event.time.getMonth(), event.time.getDate()]", "[2026,6,4]");
    check("[event.time.getDayOfMonth(), event.time.getDayOfWeek(), event.time.getDayOfYear()]", "[3,6,184]");
    check(
        "[event.time.getHours(), event.time.getMinutes(), event.time.getSeconds(), event.time.getMilliseconds()]",
        "[23,30,15,250]",
    );
    check(
        "[event.time.getHours('+02:00'), event.time.getDate('+02:00'), event.time.getHours('-01:30')]",
        "[1,5,22]",
    );
    check(
        "[duration('90m').getHours(), duration('90m').getMinutes(), duration('1.5s').getMilliseconds()]",
        "[1,90,500]",
    );
    check_failure(
        "event.time.getHours('Europe/Berlin')",
        "event.time.getHours('Europe/Berlin')",
        "'Europe/Berlin' is no time zone here; 'UTC' and offsets such as '+02:00' are",
    );
    check_failure(
        "timestamp(event.type)",
        "timestamp(event.type)",
        "'OrderCreated' is not a moment in RFC 3339, such as '2026-01-31T12:00:00Z'",
    );
}

#[test]
fn types_have_names() {
    check("type(1) == int && type(1.5) == double && type(1) == type(0.5)", "true");
    check("type(event.data.order_id) == string && type(null) == null_type && type([]) == list", "true");
    check("type(event) == map && type(event.time) == timestamp && type(true) == bool", "true");
    check("dyn(event.data.count) == 3", "true");
}

#[test]
fn comments_and_lines_are_allowed() {
    check("1 + // one\n 2 // ')'\n", "3");
}

#[test]
fn values_borrow_from_what_they_were_read_from() {
    let json = String::from(r#"{"id": "order-1"}"#);
    let expression = Expression::compile("event.id", &Scope::new().with("event", Type::Any)).unwrap();
    let variables = Variables::new().with("event", Value::parse_json(json.as_bytes()).unwrap());
    let value = expression.evaluate(&variables).unwrap();
    let text = value.as_str().unwrap().as_ptr() as usize;
    let within = json.as_ptr() as usize..json.as_ptr() as usize + json.len();
    assert!(within.contains(&text), "the text was copied");
}

#[test]
fn work_is_bounded() {
    let numbers = Value::list((0..1000_i64).map(Value::from));
    let scope = Scope::new().with("l", Type::Any).with("t", Type::Any);
    let run = |source: &str| {
        let variables = Variables::new().with("l", numbers.clone()).with("t", "x".repeat(100_000));
        let expression = Expression::compile(source, &scope).unwrap();
        expression.evaluate(&variables).map(|_| ()).map_err(|error| error.message)
    };
    let refused = Err("this takes too much work; macros within macros over large lists do".to_owned());
    assert_eq!(run("l.all(a, l.all(b, a + b >= 0))"), Ok(()));
    assert_eq!(run("l.all(a, l.all(b, l.all(c, a + b + c >= 0)))"), refused);
    assert_eq!(run("t.replace('', t)"), refused);
    assert_eq!(run("size(l.map(a, t + t)) > 0"), refused);
    assert_eq!(run("l.map(a, t).join(t) == ''"), refused);
    assert_eq!(run("l.all(a, l.all(b, l != [a, b]))"), Ok(()));
    assert_eq!(run("l.all(a, l.all(b, l == l))"), refused);
    assert_eq!(run("l.all(a, t.lowerAscii() == t)"), refused);
    assert_eq!(run("l.all(a, !t.matches('y$'))"), refused);
}

#[test]
fn compiled_expressions_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Expression>();
    shared::<headwater_expr::Template>();
    shared::<Value<'_>>();
}

#[test]
fn what_is_read_is_known() {
    let scope = Scope::new().with("event", Type::Any).with("row", Type::Any).with("item", Type::Any);
    let expression = Expression::compile(
        "event.data.amount > 0 && has(event.data.note.x) && event.data.items[0].sku in row.skus.map(event, event.x) \
         && event.data.amount < 9",
        &scope,
    )
    .unwrap();
    assert_eq!(expression.variables().collect::<Vec<_>>(), ["event", "row"]);
    assert!(expression.reads("row") && !expression.reads("item"));
    let fields: Vec<_> = expression.fields("event").map(|path| path.join(".")).collect();
    assert_eq!(fields, ["data.amount", "data.note.x", "data.items"]);
    let whole = Expression::compile("row == null", &scope).unwrap();
    assert_eq!(whole.fields("row").collect::<Vec<_>>(), [&[] as &[String]]);
    assert!(Expression::compile("'a' + 'b'", &scope).unwrap().constant().is_some());
}

#[test]
fn a_variable_without_a_value_is_an_error() {
    let expression = Expression::compile("event.id", &Scope::new().with("event", Type::Any)).unwrap();
    let error = expression.evaluate(&Variables::new()).unwrap_err();
    assert_eq!(error.to_string(), "`event`: the variable `event` has no value here");
}

#[test]
fn variables_are_found_by_name_wherever_they_stand() {
    let scope = Scope::new().with("a", Type::Any).with("b", Type::Any);
    let expression = Expression::compile("a - b", &scope).unwrap();
    let variables = Variables::new().with("b", 1_i64).with("c", 7_i64).with("a", 3_i64);
    assert_eq!(expression.evaluate(&variables).unwrap(), Value::from(2_i64));
}
