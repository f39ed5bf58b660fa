use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process};
use serde_json::{Value, json};

use crate::support::{Folder, line};

#[tokio::test]
async fn programs_run_beside_it_and_end_with_it() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write(
        "Procfile",
        "# beside\nshow: echo $HEADWATER_SERVER $HEADWATER_SERVER_ORDERS $HEADWATER_QUERY_SERVER; command -v headwater; pwd; exec tail -f /dev/null\nfails: exit 3\nid: echo $$; exec tail -f /dev/null\n",
    )?;
    let mut process = folder.start(&[])?;
    let ready = line(&mut process, "ready").await?;
    // The order between programs is nobody's promise.
    let (mut said, mut pid, mut exited) = (Vec::new(), None, None);
    while said.len() < 3 || pid.is_none() || exited.is_none() {
        let line: Value = process.line("more", |line| serde_json::from_str(line).ok()).await?;
        match (line["kind"].as_str(), line["name"].as_str(), line["line"].as_str()) {
            (Some("process"), Some("show"), Some(text)) => said.push(text.to_owned()),
            (Some("process"), Some("id"), Some(text)) => pid = text.parse().ok().and_then(Pid::from_raw),
            (Some("exited"), Some(name), _) => exited = Some((name.to_owned(), line["code"].clone())),
            _ => {}
        }
    }
    assert_eq!(exited, Some(("fails".to_owned(), json!(3))));
    let server = ready["streams"][0]["url"].as_str().unwrap_or_default();
    assert_eq!(said[0], format!("{server} {server} {}", ready["query"].as_str().unwrap_or_default()));
    assert!(said[1].ends_with("/headwater"), "{said:?}");
    assert_eq!(said[2], folder.path().canonicalize()?.display().to_string());
    let pid = pid.expect("it said so");
    assert!(test_kill_process(pid).is_ok());
    assert!(process.terminate().await?.success());
    assert!(test_kill_process(pid).is_err(), "it outlives dev");
    Ok(())
}

#[tokio::test]
async fn programs_end_with_a_dev_that_is_killed() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("Procfile", "id: tail -f /dev/null & echo $!; exec tail -f /dev/null\n")?;
    let mut process = folder.start(&[])?;
    let said = |line: &str| {
        let line: Value = serde_json::from_str(line).ok().filter(|line: &Value| line["kind"] == "process")?;
        line["line"].as_str()?.parse().ok().and_then(Pid::from_raw)
    };
    let pid = process.line("the id of what runs in its background", said).await?;
    process.kill().await?;
    let began = std::time::Instant::now();
    while test_kill_process(pid).is_ok() {
        anyhow::ensure!(began.elapsed() < headwater_testkit::process::PATIENCE, "it outlives dev");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_procfile_can_be_left_alone() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("Procfile", "no program\n")?;
    let mut process = folder.start(&["--no-procfile"])?;
    line(&mut process, "ready").await?;
    assert!(process.terminate().await?.success());
    Ok(())
}

#[tokio::test]
async fn a_second_signal_does_not_wait_for_programs() -> Result<()> {
    let folder = Folder::orders()?;
    folder.write("Procfile", "stubborn: trap '' TERM; echo $$; exec tail -f /dev/null\n")?;
    let mut process = folder.start(&[])?;
    let said = line(&mut process, "process").await?;
    let pid =
        said["line"].as_str().and_then(|pid| Pid::from_raw(pid.parse().ok()?)).context("its process id")?;
    process.signal(Signal::TERM)?;
    process.line("that it ends", |line| line.contains("once more exits at once").then_some(())).await?;
    process.signal(Signal::TERM)?;
    let status = process.wait().await?;
    kill_process_group(pid, Signal::KILL)?;
    assert_eq!(status.code(), Some(143), "128 and SIGTERM's number, as a shell has it");
    Ok(())
}
