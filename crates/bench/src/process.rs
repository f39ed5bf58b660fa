//! What a `dev` that does nothing costs, and how soon it takes its first event.

use std::time::{Duration, Instant};

use anyhow::Result;
use headwater_testkit::counters;
use headwater_testkit::dev::{Dev, DevOptions};
use headwater_testkit::http::Outcome;
use serde_json::json;
use uuid::Uuid;

use crate::Load;
use crate::figures::{Figure, Target as Goal};
use crate::usage::resident_megabytes;

/// How long it idles before its memory is read.
const IDLE: Duration = Duration::from_secs(3);

pub(crate) async fn measure(load: Load) -> Result<Vec<Figure>> {
    let (mut starts, mut sizes) = (Vec::new(), Vec::new());
    for _ in 0..load.runs {
        let folder = tempfile::tempdir()?;
        counters::write_manifests(folder.path())?;
        let start = Instant::now();
        let mut dev = Dev::start(&DevOptions::new(folder.path(), folder.path().join("data"))).await?;
        let answer = dev
            .http(counters::STREAM)?
            .append("counter-1", &json!("any"), &Uuid::new_v4().to_string(), "Added", &counters::added(1))
            .await?;
        starts.push(start.elapsed().as_secs_f64() * 1000.0);
        anyhow::ensure!(matches!(answer, Outcome::Stored(_)), "the first append was answered {answer:?}");
        tokio::time::sleep(IDLE).await;
        sizes.push(resident_megabytes(dev.process().id()?)?);
        dev.terminate().await?;
    }
    Ok(vec![
        Figure::new("`headwater dev`, from its start to the first append's answer", "ms", starts)
            .with_target(Goal::AtMost(300.0)),
        Figure::new("`headwater dev` idle, one event stream and one projection, resident", "MB", sizes)
            .with_target(Goal::AtMost(40.0)),
    ])
}
