//! What every program does, whatever becomes of those around it.

use std::io::{ErrorKind, PipeWriter, Write};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use headwater_testkit::counters;
use headwater_testkit::process::{PATIENCE, program};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// Writes into it until nothing more fits. Whoever writes next waits.
fn fill(pipe: &mut PipeWriter) -> Result<()> {
    let flags = fcntl_getfl(&pipe)?;
    fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?;
    loop {
        match pipe.write(&[b'\n'; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    fcntl_setfl(&pipe, flags)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_whose_log_nobody_reads_serves_and_ends_when_it_is_told() -> Result<()> {
    let directory = tempfile::tempdir()?;
    counters::write_manifests(directory.path())?;
    let (unread, mut log) = std::io::pipe()?;
    fill(&mut log)?;
    let mut child = Command::new(program("headwater-eventstore")?)
        .arg(directory.path())
        .arg("--data-dir")
        .arg(directory.path().join("data"))
        .args(["--listen", "127.0.0.1:0", "--bus", "none", "--log", "trace"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.context("it does not listen")??;
    let line = line.context("it has ended")?;
    let (_, url) = line.split_once(": listening on ").with_context(|| line.clone())?;
    // Each connection is logged as well.
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
    let ready = async {
        // Until then, who serves may change.
        while !client.get(format!("{url}/readyz")).send().await.is_ok_and(|it| it.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ready).await.context("it does not begin")?;
    // It goes on to serve, although not one line of its log is read: until there is no room for more, and beyond.
    let serves = async {
        loop {
            let metrics = client.get(format!("{url}/metrics")).send().await?.text().await?;
            let lost = metrics
                .lines()
                .find_map(|line| line.strip_prefix("headwater_telemetry_log_lines_lost_total "));
            if lost.map(str::parse::<u64>).transpose()?.is_some_and(|lost| lost > 100) {
                return anyhow::Ok(());
            }
        }
    };
    timeout(PATIENCE, serves).await.context("it loses no lines")??;
    // When somebody reads, it says so.
    let said = tokio::task::spawn_blocking(move || {
        for line in std::io::BufRead::lines(std::io::BufReader::new(unread)) {
            if line?.contains("log lines are lost") {
                return anyhow::Ok(true);
            }
        }
        Ok(false)
    });
    let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("it has ended")?;
    kill_process(id, Signal::TERM)?;
    let status = timeout(PATIENCE, child.wait()).await.context("it does not end")??;
    assert!(status.success(), "{status}");
    assert!(
        timeout(PATIENCE, said).await.context("it does not say what it lost")???,
        "it said nothing of it"
    );
    Ok(())
}
