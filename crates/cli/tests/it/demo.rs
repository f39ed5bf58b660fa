use anyhow::Result;

use crate::support::{Folder, line, line_where};

const DEMO: &str = r#"
@server = http://127.0.0.1:1
@order = order-{{$uuid}}

### An order comes in
# @name create
# @expect status 201
# @expect body.version == 1
# @capture token = body.token
POST {{server}}/v1/streams/{{order}}/events
Content-Type: application/json

{"expected": "no_stream", "events": [{"id": "{{$uuid}}", "type": "OrderCreated", "data": {"amount": "{{amount}}"}}]}

### It is in the read model
# @expect status 200
# @expect body.amount == "12.50"
# @within 30s
GET {{query}}/v1/projections/orders/orders/{{order}}
    ?min_token={{create.response.body.token}}
"#;

#[tokio::test]
async fn a_demo_shows_events_rows_and_read_models_and_ends() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("demo.http", DEMO)?;
    let mut process = folder.start(&["--demo", "--exit", "--var", "amount=12.50"])?;
    let event = line(&mut process, "event").await?;
    assert_eq!(
        (event["type"].as_str(), event["data"]["amount"].as_str()),
        (Some("OrderCreated"), Some("12.50"))
    );
    let table = line(&mut process, "table").await?;
    assert_eq!(table["rows"][0]["amount"], "12.50", "{table}");
    assert_eq!(table["rows"][0]["id"], event["stream_id"]);
    let demo = line(&mut process, "demo").await?;
    assert_eq!((demo["held"].as_u64(), demo["failed"].as_u64()), (Some(4), Some(0)));
    let output = process.output();
    for part in [
        r#""kind":"row""#,
        r#""title":"An order comes in""#,
        r#""expected":"status 201","found":null,"held":true"#,
    ] {
        assert!(output.contains(part), "{part} is not in\n{output}");
    }
    assert_eq!(process.wait().await?.code(), Some(0));
    Ok(())
}

#[tokio::test]
async fn an_expectation_that_does_not_hold_fails_the_demo() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("demo.http", &DEMO.replace("body.version == 1", "body.version == 2"))?;
    let mut process = folder.start(&["--demo", "--exit", "--var", "amount=12.50"])?;
    let failed = line_where(&mut process, "expectation", |expectation| expectation["held"] == false).await?;
    assert_eq!(
        (failed["expected"].as_str(), failed["found"].as_str()),
        (Some("body.version == 2"), Some("1"))
    );
    process
        .line("the reason", |line| line.contains("the demo failed: 1 expectation did not hold").then_some(()))
        .await?;
    assert_eq!(process.wait().await?.code(), Some(1));
    Ok(())
}

#[tokio::test]
async fn a_program_that_fails_fails_the_demo_at_once() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("demo.http", "# @within 15m\nGET http://127.0.0.1:1/\n")?;
    folder.write("Procfile", "service: echo no luck; exit 7\n")?;
    let mut process = folder.start(&["--demo", "--exit"])?;
    process
        .line("the reason", |line| {
            line.contains("the demo failed: service ended with exit code 7").then_some(())
        })
        .await?;
    assert_eq!(process.wait().await?.code(), Some(1));
    Ok(())
}
