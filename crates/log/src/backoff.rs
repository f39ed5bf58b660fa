use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Pauses between attempts: doubled each time up to a limit, each shortened by chance to between a half and the whole,
/// so that many who failed together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Starts with `first`; no pause is over `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next.min(self.longest);
        self.next = pause.saturating_mul(2);
        // Chance from the standard library's hash seeds: jitter needs no better.
        let chance = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        pause.mul_f64(0.5 + chance / 2.0)
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
