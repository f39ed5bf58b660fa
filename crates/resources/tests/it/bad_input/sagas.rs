//! Sagas whose steps do not go together.

use super::check_saga;

#[test]
fn sagas() {
    check_saga(
        "    role: Pivot\n",
        "    role: Pivot\n    compensation: {type: Append, append: {streamId: a, type: b, data: {}}}\n",
        &[
            "saga.yaml:26:19: spec.steps[1].compensation: a Pivot step is never undone; remove it, or make the role Compensatable",
        ],
    );
    check_saga(
        "    compensation: {type: HTTP,",
        "    # compensation: {type: HTTP,",
        &[
            "saga.yaml:11:5: spec.steps[0].compensation: is missing: a Compensatable step says how it is undone; add it, or compensation: {type: None} when there is nothing to undo",
        ],
    );
    check_saga(
        "name: approve",
        "name: debit-payment",
        &[
            "saga.yaml:24:11: spec.steps[1].name: \"debit-payment\" is also the name of spec.steps[0]; give each its own",
        ],
    );
    check_saga(
        "    role: Pivot\n",
        "    role: Retriable\n",
        &[
            "saga.yaml:25:11: spec.steps[1].role: a Retriable step follows the Pivot, and none is before it; make it Compensatable, or put a Pivot before it",
            "saga.yaml:30:30: spec.steps[2].parallel.steps[0].role: a Retriable step follows the Pivot, and none is before it; make it Compensatable, or put a Pivot before it",
            "saga.yaml:31:31: spec.steps[2].parallel.steps[1].role: a Retriable step follows the Pivot, and none is before it; make it Compensatable, or put a Pivot before it",
        ],
    );
    check_saga(
        "role: Retriable, action: {type: GRPC",
        "role: Pivot, action: {type: GRPC",
        &[
            "saga.yaml:30:30: spec.steps[2].parallel.steps[0].role: a step within parallel cannot decide; make the pivot a step of its own",
        ],
    );
    check_saga(
        "{name: notify, role",
        "{name: notify, parallel: {steps: []}, role",
        &[
            "saga.yaml:30:24: spec.steps[2].parallel.steps[0].parallel: no such field; there is \"action\", \"awaitReply\", \"capture\", \"compensation\", \"name\", \"retry\", \"role\", \"timeout\"",
        ],
    );
    check_saga(
        "  - name: tell\n",
        "  - name: tell\n    timeout: 5s\n",
        &[
            "saga.yaml:28:14: spec.steps[2].timeout: a parallel step has only its steps; move it into the steps that it is for",
        ],
    );
    check_saga(
        "when: event.data.amount > 0",
        "when: event.data.amount > 'x'",
        &[
            "saga.yaml:6:43: spec.startOn.when: `>` does not take a number and text; string(…) makes text of a number, decimal(…) a number of text",
        ],
    );
    check_saga(
        "key: token}",
        "key: tokn}",
        &[
            "saga.yaml:17:67: spec.steps[0].action.http.headers[0].valueFrom.secretKeyRef: the Secret \"payments\" (saga.yaml:34) has no key \"tokn\"; did you mean \"token\"?",
        ],
    );
    check_saga(
        "instance: \"${event.data.order_id}\"",
        "instance: \"order-${event.data.ordr_id}\"",
        &["saga.yaml:7:33: spec.instance: `event.data` has no field `ordr_id`; did you mean `order_id`?"],
    );
    check_saga(
        "role: Pivot\n    action: {type: Append, append:",
        "role: Pivot\n    action: {type: HTTP, append:",
        &[
            "saga.yaml:26:13: spec.steps[1].action: http is needed for type HTTP, and for no other; write both, or neither",
            "saga.yaml:26:13: spec.steps[1].action: append is needed for type Append, and for no other; write both, or neither",
        ],
    );
}

#[test]
fn names_and_expressions_of_sagas() {
    check_saga(
        "variables: {",
        "variables: {failure: event.id, ",
        &[
            "saga.yaml:9:24: spec.variables.failure: \"failure\" is why the saga turned back, and cannot be another variable; call it something else",
        ],
    );
    check_saga(
        "capture: {payment_id: response",
        "capture: {event: response",
        &[
            "saga.yaml:20:22: spec.steps[0].capture.event: \"event\" is the event that starts it, or a reply, and cannot be another variable; call it something else",
        ],
    );
    check_saga(
        "capture: {payment_id: response.body",
        "capture: {payment_id: response.bdy",
        &[
            "saga.yaml:20:36: spec.steps[0].capture.payment_id: `response` has no field `bdy`; did you mean `body`?",
        ],
    );
    check_saga(
        "body: {order_id: order.order_id, amount",
        "body: {order_id: [ordr.order_id], amount",
        &[
            "saga.yaml:18:27: spec.steps[0].action.http.body.order_id[0]: unknown variable `ordr`; did you mean `order`?",
        ],
    );
    check_saga(
        "instance: order.order_id}}",
        "instance: order}}",
        &[
            "saga.yaml:19:123: spec.steps[0].awaitReply.correlate.instance: gives object, and a reply is known by a text or a number; use a field of it",
        ],
    );
    check_saga(
        "instance: order.order_id}}",
        "instance: payment_id}}",
        &[
            "saga.yaml:19:123: spec.steps[0].awaitReply.correlate.instance: unknown variable `payment_id`; there is `instance`, `order`; a text is written in quotes: 'payment_id'",
        ],
    );
    for url in ["ftp://payments/v1/debits", "payments/v1/debits", "http:///v1/debits"] {
        check_saga(
            "url: http://payments/v1/debits",
            &format!("url: {url}"),
            &[
                "saga.yaml:16:14: spec.steps[0].action.http.url: it is no address of HTTP; begin it with http:// or https:// and a host",
            ],
        );
    }
    for (url, fault) in [
        ("http://payments:0/v1", "\"0\" is no port; ports are 1 to 65535"),
        ("http://payments:http/v1", "\"http\" is no port; ports are 1 to 65535"),
        (
            "https://me@payments",
            "\"me@payments\" names a user; credentials belong in a header with valueFrom",
        ),
    ] {
        let fault = format!(
            "saga.yaml:16:14: spec.steps[0].action.http.url: {fault}; write http://HOST:PORT/PATH, or https://"
        );
        check_saga("url: http://payments/v1/debits", &format!("url: {url}"), &[&fault]);
    }
    let header = "{name: Authorization, valueFrom: {secretKeyRef: {name: payments, key: token}}}";
    for (others, fault) in [
        (
            "{name: Transfer-Encoding, value: chunked}",
            "headers[0].name: \"Transfer-Encoding\" says how the message is framed, and is the connection's own; remove this header",
        ),
        (
            "{name: X-Kind, value: a}, {name: x-kind, value: b}",
            "headers[1].name: there is another header \"x-kind\": capital letters make no difference; give it once",
        ),
    ] {
        let column = if fault.starts_with("headers[0]") { 26 } else { 52 };
        let fault = format!("saga.yaml:17:{column}: spec.steps[0].action.http.{fault}");
        check_saga(header, others, &[&fault]);
    }
    check_saga(
        "url: http://payments/v1/debits",
        "url: 'http://payments/${payment_id}'",
        &[
            "saga.yaml:16:33: spec.steps[0].action.http.url: unknown variable `payment_id`; there is `instance`, `order`; a text is written in quotes: 'payment_id'",
        ],
    );
    check_saga(
        "{name: Authorization, valueFrom: {secretKeyRef: {name: payments, key: token}}}",
        "{name: idempotency-KEY, value: a}",
        &[
            "saga.yaml:17:26: spec.steps[0].action.http.headers[0].name: the idempotency key is the step's own: it must not change over repetitions; remove this header",
        ],
    );
    check_saga(
        "http://archive/${order.order_id}",
        "http://archive/${failure.reason}",
        &[
            "saga.yaml:31:106: spec.steps[2].parallel.steps[1].action.http.url: unknown variable `failure`; there is `instance`, `order`, `payment_id`; a text is written in quotes: 'failure'",
        ],
    );
    check_saga(
        "reason: failure.reason",
        "reason: failure.reson",
        &[
            "saga.yaml:32:109: spec.onCompensated.append.data.reason: `failure` has no field `reson`; did you mean `reason`?",
        ],
    );
}

#[test]
fn event_types_addresses_and_streams_of_sagas() {
    check_saga(
        "failure: [PaymentDeclined]",
        "failure: [PaymentDeclined, PaymentDebited]",
        &[
            "saga.yaml:19:72: spec.steps[0].awaitReply.failure[1]: \"PaymentDebited\" means success as well; let it mean one of the two",
        ],
    );
    check_saga(
        "failure: [PaymentDeclined]",
        r#"failure: ["Payment\tDeclined"]"#,
        &[
            r#"saga.yaml:19:55: spec.steps[0].awaitReply.failure[0]: "Payment\tDeclined" has a control character, and no event's type has one; remove it"#,
        ],
    );
    check_saga(
        "type: OrderApproved",
        r#"type: "Order\nApproved""#,
        &[
            r#"saga.yaml:26:80: spec.steps[1].action.append.type: "Order\nApproved" has a control character, and no event's type has one; remove it"#,
        ],
    );
    for (address, fault) in
        [("notify", "\"notify\" has no port"), ("notify:99999", "\"99999\" is no port; ports are 1 to 65535")]
    {
        let fault = format!(
            "saga.yaml:30:78: spec.steps[2].parallel.steps[0].action.grpc.address: {fault}; write HOST:PORT"
        );
        check_saga("address: \"notify:80\"", &format!("address: \"{address}\""), &[&fault]);
    }
    check_saga(
        "append: {streamId: \"order-${order.order_id}\", type: OrderApproved",
        "append: {streamRef: {name: order}, streamId: \"order-${order.order_id}\", type: OrderApproved",
        &[
            "saga.yaml:26:55: spec.steps[1].action.append.streamRef.name: there is no EventStream \"order\" in these files; did you mean \"orders\"?",
        ],
    );
    check_saga(
        "onCompensated: {append: {",
        "onCompensated: {append: {streamRef: {name: audit}, ",
        &[
            "saga.yaml:32:46: spec.onCompensated.append.streamRef.name: there is no EventStream \"audit\" in these files; there is \"orders\"",
        ],
    );
}

#[test]
fn lengths_of_time_of_sagas() {
    check_saga(
        "timeout: 15m",
        "timeout: 0s",
        &["saga.yaml:8:12: spec.timeout: nothing is done in no time; give a length of time, such as 15m"],
    );
    check_saga(
        "timeout: 10s",
        "timeout: 0s",
        &[
            "saga.yaml:21:14: spec.steps[0].timeout: nobody answers in no time; give a length of time, such as 10s",
        ],
    );
    check_saga(
        "retry: {maxAttempts: 5}",
        "retry: {maxBackoff: 0s}",
        &[
            "saga.yaml:22:25: spec.steps[0].retry.maxBackoff: attempts without a pause are many, and each is kept for good; give at least 1ms",
        ],
    );
    check_saga(
        "retry: {maxAttempts: 5}",
        "retry: {initialBackoff: 10s, maxBackoff: 1s}",
        &[
            "saga.yaml:22:29: spec.steps[0].retry.initialBackoff: it is longer than maxBackoff; exchange them, or raise maxBackoff",
        ],
    );
}
