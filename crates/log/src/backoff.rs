use std::time::Duration;

use headwater_core::RetryPolicy;

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
    }
}
