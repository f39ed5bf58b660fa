//! What a process uses, by Linux's account.

use std::time::Duration;

use anyhow::{Context, Result};

/// Memory that is resident, in megabytes.
pub(crate) fn resident_megabytes(process: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))
        .context("the process's status (Linux only)")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kilobytes: f64 =
        line.trim().trim_end_matches(" kB").parse().with_context(|| format!("VmRSS {line:?}"))?;
    Ok(kilobytes / 1000.0)
}

/// Time that the threads that live have spent on a core.
pub(crate) fn cpu_time(process: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    let threads =
        std::fs::read_dir(format!("/proc/{process}/task")).context("the process's threads (Linux only)")?;
    for thread in threads {
        let path = thread?.path().join("schedstat");
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let first = text.split_whitespace().next().context("schedstat")?;
        nanoseconds += first.parse::<u64>().with_context(|| format!("schedstat {text:?}"))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}
