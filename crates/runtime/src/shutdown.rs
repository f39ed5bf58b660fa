//! SIGINT and SIGTERM.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A signal that ends the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Interrupt,
    Terminate,
}

impl Ending {
    const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// What a shell reports for a process that the signal ended: 128 and the signal's number.
    const fn code(self) -> i32 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// A token that the first SIGINT or SIGTERM cancels: stop taking work, finish what is begun, end. The second exits at once, after `before_exit`.
///
/// # Errors
/// When the signals cannot be listened to.
///
/// # Panics
/// Outside a Tokio runtime.
pub fn on_signals(before_exit: impl FnOnce() + Send + 'static) -> io::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        let name = either(&mut interrupt, &mut terminate).await.name();
        // First of all: nothing may come between a signal and the end.
        cancelled.cancel();
        tracing::info!("{name}: shutting down; once more exits at once");
        let again = either(&mut interrupt, &mut terminate).await;
        tracing::warn!("{} again: exiting at once", again.name());
        before_exit();
        std::process::exit(again.code());
    });
    Ok(token)
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> Ending {
    tokio::select! {
        _ = interrupt.recv() => Ending::Interrupt,
        _ = terminate.recv() => Ending::Terminate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_cancels_the_token() {
        let token = on_signals(|| {}).unwrap();
        assert!(!token.is_cancelled());
        let process = std::process::id().to_string();
        let kill = tokio::process::Command::new("kill").args(["-TERM", &process]).status().await;
        assert!(kill.unwrap().success());
        token.cancelled().await;
    }
}
