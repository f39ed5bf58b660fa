//! Templates.

use headwater_expr::{Scope, Template, Type, Value, Variables};

fn scope() -> Scope {
    Scope::new().with("order", Type::Any).with("n", Type::Number)
}

fn render(source: &str) -> (Result<String, String>, Result<String, String>) {
    let template =
        Template::compile(source, &scope()).unwrap_or_else(|faults| panic!("{source}: {faults:?}"));
    let order = Value::parse_json(r#"{"id": "a/ü b", "amount": 19.90, "none": null, "list": []}"#.as_bytes())
        .unwrap();
    let variables = Variables::new().with("order", order).with("n", 7_i64);
    let text = |outcome: Result<String, _>| {
        outcome.map_err(|error: headwater_expr::EvaluationError| error.to_string())
    };
    (text(template.render(&variables)), text(template.render_url(&variables)))
}

fn check(source: &str, text: &str, url: &str) {
    assert_eq!(render(source), (Ok(text.to_owned()), Ok(url.to_owned())), "{source}");
}

fn check_faults(source: &str, expected: &[&str]) {
    let faults = Template::compile(source, &scope()).expect_err(source);
    let faults: Vec<_> =
        faults.iter().map(|fault| format!("{}: {}", &source[fault.range.clone()], fault.message)).collect();
    assert_eq!(faults, expected, "{source}");
}

#[test]
fn values_are_put_in_place() {
    check("payment-${order.id}", "payment-a/ü b", "payment-a%2F%C3%BC%20b");
    check(
        "http://payments/v1/${order.id}?n=${n}&x=ü",
        "http://payments/v1/a/ü b?n=7&x=ü",
        "http://payments/v1/a%2F%C3%BC%20b?n=7&x=ü",
    );
    check("${order.amount * 2}", "39.80", "39.80");
    check("${'-._~' + \"}\" + {'a': '{'}.a}", "-._~}{", "-._~%7D%7B");
    check("${[1, 2].exists(x, x == 2) ? 'yes' : 'no'}!", "yes!", "yes!");
    check("no expression", "no expression", "no expression");
    check("", "", "");
}

#[test]
fn dollars_are_themselves_unless_doubled_before_a_brace() {
    check("5$ $x $$ {a} }", "5$ $x $$ {a} }", "5$ $x $$ {a} }");
    check("$${n} is ${n}", "${n} is 7", "${n} is 7");
    check("$$${n}", "$${n}", "$${n}");
    check("${n}$", "7$", "7$");
}

#[test]
fn all_faults_have_their_places_in_the_template() {
    check_faults(
        "é-${ordr.id}/${order.id + 1}/${n + 'x'}/${",
        &[
            "ordr: unknown variable `ordr`; did you mean `order`?",
            "n + 'x': `+` does not take a number and text; string(…) makes text of a number, decimal(…) a number of text",
            "${: this `${` has no `}`; write `$${` for the characters themselves",
        ],
    );
    check_faults("a ${} b", &[": the expression is empty; a text is written in quotes: ''"]);
    check_faults("${[n]}", &["[n]: a list of number has no text; use a field or element of it"]);
    check_faults("${'abc}", &["${: this `${` has no `}`; write `$${` for the characters themselves"]);
}

#[test]
fn values_without_a_text_are_errors() {
    let null = Err("`order.none`: null has no text".to_owned());
    assert_eq!(render("a-${ order.none }"), (null.clone(), null));
    let missing = Err("`order.idd`: there is no field `idd` in `order`; did you mean `id`?".to_owned());
    assert_eq!(render("a-${order.idd}"), (missing.clone(), missing));
    let list = Err("`order.list`: a list has no text".to_owned());
    assert_eq!(render("${order.list}"), (list.clone(), list));
}

#[test]
fn the_place_of_an_error_is_in_the_template() {
    let source = "é-${n} ${order.nope}";
    let template = Template::compile(source, &scope()).unwrap();
    let variables = Variables::new().with("order", Value::map([("a", Value::Null)])).with("n", 7_i64);
    let error = template.render(&variables).unwrap_err();
    assert_eq!(&source[error.range], "order.nope");
    assert!(template.reads("order") && template.reads("n") && !template.reads("x"));
    assert_eq!(template.expressions().count(), 2);
}
