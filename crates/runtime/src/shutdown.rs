//! SIGINT and SIGTERM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell reports for a process that SIGINT ended: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// A token that the first SIGINT or SIGTERM cancels: stop taking work, finish what is begun, end. The second exits at once.
///
/// # Errors
/// When the signals cannot be listened to.
///
/// # Panics
/// Outside a Tokio runtime.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = either(&mut interrupt, &mut terminate).await;
        tracing::info!("{name}: shutting down; once more exits at once");
        cancelled.cancel();
        let name = either(&mut interrupt, &mut terminate).await;
        tracing::warn!("{name} again: exiting at once");
        std::process::exit(INTERRUPTED);
    });
    Ok(token)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_cancels_the_token() {
        let token = on_signals().unwrap();
        assert!(!token.is_cancelled());
        let process = std::process::id().to_string();
        let kill = tokio::process::Command::new("kill").args(["-TERM", &process]).status().await;
        assert!(kill.unwrap().success());
        token.cancelled().await;
    }
}
