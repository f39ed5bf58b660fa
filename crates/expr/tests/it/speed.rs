//! A guard against evaluation becoming slow: far above what it takes, far below what a mistake would make of it.

use std::time::{Duration, Instant};

use headwater_expr::{Expression, Scope, Type, Value, Variables};

#[test]
fn a_rule_is_evaluated_in_microseconds() {
    let scope = Scope::new().with("event", Type::Any);
    let rule =
        Expression::compile(r#"event.data.amount > 0 && event.type == "OrderCreated""#, &scope).unwrap();
    let event = br#"{"id": "1", "type": "OrderCreated", "data": {"order_id": "order-1", "amount": 59.70}}"#;
    let variables = Variables::new().with("event", Value::parse_json(event).unwrap());
    let best = (0..20)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..1000 {
                assert_eq!(std::hint::black_box(&rule).evaluate(&variables), Ok(Value::Bool(true)));
            }
            started.elapsed() / 1000
        })
        .min()
        .unwrap();
    println!("one evaluation: {best:?}");
    assert!(best < Duration::from_micros(2), "one evaluation takes {best:?}");
}
