//! `docs/sagas.md`: its manifest is valid, and its participant does what it says that participants must.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use headwater_testkit::dev::write;
use headwater_testkit::process::{PATIENCE, Process, program};
use serde_json::json;

fn guide() -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/sagas.md");
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The first block of `language` in the guide.
fn block<'t>(text: &'t str, language: &str) -> Result<&'t str> {
    let fence = format!("```{language}\n");
    let start = text.find(&fence).with_context(|| format!("a block of {language}"))? + fence.len();
    let end = text[start..].find("```").context("the block's end")?;
    Ok(&text[start..start + end])
}

#[test]
fn the_manifest_of_the_guide_is_valid() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let stream = "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {name: orders}\nspec: {partitions: 1}\n";
    write(directory.path(), "stream.yaml", stream)?;
    write(directory.path(), "saga.yaml", block(&guide()?, "yaml")?)?;
    let output = Command::new(program("headwater")?).arg("validate").arg(directory.path()).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[tokio::test]
async fn the_participant_of_the_guide_does_what_it_must() -> Result<()> {
    let python = Command::new("python3").arg("--version").output();
    if python.is_err() && std::env::var_os("CI").is_none() {
        eprintln!(
            "skipped: there is no python3 on this machine, which the guide's participant is written in"
        );
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let text = guide()?;
    let code = block(&text, "python")?;
    ensure!(code.lines().count() <= 45, "it is short");
    let code = code.replace("7001", &address.port().to_string());
    write(directory.path(), "participant.py", &code)?;
    let mut command = tokio::process::Command::new("python3");
    command.arg("participant.py").current_dir(directory.path());
    let participant = Process::start(command)?;

    let http = reqwest::Client::new();
    let post = async |path: &str, order: &str| -> Result<u16> {
        let body = json!({"order_id": order, "amount": 19.90});
        let request = http.post(format!("http://{address}{path}")).json(&body);
        Ok(request.send().await?.status().as_u16())
    };
    // It listens when it answers.
    let first = async {
        loop {
            match post("/v1/debits", "a").await {
                Ok(status) => return status,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, first).await.context("it never listens")?, 200);
    assert_eq!(post("/v1/debits", "a").await?, 200, "a repetition is answered as the first time");
    assert_eq!(post("/v1/voids", "a").await?, 200);
    assert_eq!(post("/v1/voids", "a").await?, 200);
    assert_eq!(post("/v1/voids", "b").await?, 200, "a compensation for an action that it has not seen");
    assert_eq!(post("/v1/debits", "b").await?, 409, "the action comes late");
    participant.kill().await
}
