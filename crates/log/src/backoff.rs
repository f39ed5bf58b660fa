use std::time::Duration;

use headwater_core::RetryPolicy;

/// Says a failure of what is tried until it succeeds, as `tracing::warn!` does: the first aloud, and its repetitions, which say nothing new, for
/// those who look closely. `$first`: whether it is the first.
#[macro_export]
macro_rules! say_failure {
    ($first:expr, $($said:tt)+) => {
        if $first {
            tracing::warn!($($said)+);
        } else {
            tracing::debug!($($said)+);
        }
    };
}

/// The pauses of a [`RetryPolicy`] one after another, for what is tried until it succeeds.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: RetryPolicy,
    attempt: u32,
}

impl Backoff {
    /// Starts with `first`; no pause is over `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        let policy = RetryPolicy { name: "backoff", attempts: u32::MAX, initial: first, max: longest };
        Self { policy, attempt: 0 }
    }

    /// Whether nothing has failed since it was made, or [reset](Self::reset).
    pub const fn is_unused(&self) -> bool {
        self.attempt == 0
    }

    /// It has succeeded: begins again with the first pause. Whether there was a failure before.
    pub const fn reset(&mut self) -> bool {
        let failed = self.attempt > 0;
        self.attempt = 0;
        failed
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        self.attempt = self.attempt.saturating_add(1);
        self.policy.delay(self.attempt).unwrap_or(self.policy.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_limit_and_differ() {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(50));
        for most in [10, 20, 40, 50, 50] {
            let pause = backoff.pause();
            let most = Duration::from_millis(most);
            assert!(pause >= most / 2 && pause <= most, "{pause:?}");
        }
        let pauses: std::collections::HashSet<Duration> = (0..20).map(|_| backoff.pause()).collect();
        assert!(pauses.len() > 1);
        assert!(!backoff.is_unused() && backoff.reset() && backoff.is_unused() && !backoff.reset());
        assert!(backoff.pause() <= Duration::from_millis(10));
    }
}
