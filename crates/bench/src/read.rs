//! A catch-up read over gRPC, from the beginning, by one client.

use anyhow::Result;

use crate::Load;
use crate::figures::{Figure, Target as Goal};
use crate::target::{EVENT_BYTES, Target};

const EVENTS: u64 = 400_000;

pub(crate) async fn measure(load: Load) -> Result<Vec<Figure>> {
    let target = Target::start().await?;
    target.fill(EVENTS, 100).await?;
    let mut rates = Vec::new();
    for _ in 0..load.runs {
        let elapsed = target.read_back(EVENTS).await?;
        rates.push(EVENTS as f64 / elapsed.as_secs_f64());
    }
    let work = format!("catch-up read over gRPC, {EVENT_BYTES} B, 1 client");
    Ok(vec![Figure::new(work, "events/s", rates).with_target(Goal::AtLeast(200_000.0))])
}
