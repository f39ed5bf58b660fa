use std::time::Duration;

use uuid::Uuid;

/// How often, and at what distance, something that may pass is tried again. Bounded, with jitter, and with a name that logs and
/// metrics can carry. Only the numbers: whoever waits brings the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// What is retried, for logs and metrics: a short fixed text such as `append`.
    pub name: &'static str,
    /// Tries in all, the first one included.
    pub attempts: u32,
    /// The longest wait after the first failure; doubles with each further one.
    pub initial: Duration,
    /// The longest wait ever.
    pub max: Duration,
}

impl RetryPolicy {
    /// How long to wait after the failure of try number `attempt` (from 1); `None`: that was the last one.
    ///
    /// Between half and all of the doubled wait, at random, so that those who failed together do not come back together.
    pub fn delay(&self, attempt: u32) -> Option<Duration> {
        (attempt < self.attempts).then(|| {
            let doubled =
                self.initial.saturating_mul(1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX));
            let longest = doubled.min(self.max);
            let random = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
            longest.mul_f64(0.5 + random / 2.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_end() {
        let policy = RetryPolicy {
            name: "test",
            attempts: 40,
            initial: Duration::from_millis(10),
            max: Duration::from_millis(100),
        };
        for (attempt, longest) in [(1, 10), (2, 20), (4, 80), (5, 100), (33, 100), (39, 100)] {
            let delay = policy.delay(attempt).unwrap();
            let longest = Duration::from_millis(longest);
            assert!(delay >= longest / 2 && delay <= longest, "{attempt}: {delay:?}");
        }
        assert_eq!(policy.delay(40), None);
        assert_eq!(RetryPolicy { attempts: 1, ..policy }.delay(1), None);
        let delays: std::collections::HashSet<_> = (0..20).map(|_| policy.delay(5)).collect();
        assert!(delays.len() > 1, "without jitter");
    }
}
