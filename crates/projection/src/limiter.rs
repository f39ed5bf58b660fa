use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Spreads events over time: at most so many a second, over all who share it.
#[derive(Debug, Default)]
pub(crate) struct Limiter(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// 0: no limit.
    per_second: u32,
    /// When what was let through so far has had its time.
    free_at: Option<Instant>,
}

impl Limiter {
    /// Sets the limit; 0 is none.
    pub(crate) fn set(&self, per_second: u32) {
        self.lock().per_second = per_second;
    }

    /// How many events may pass together: those of a second.
    pub(crate) fn at_once(&self) -> usize {
        match self.lock().per_second {
            0 => usize::MAX,
            limit => limit as usize,
        }
    }

    /// When `events` more may pass.
    pub(crate) fn pass_at(&self, events: usize, now: Instant) -> Instant {
        let mut state = self.lock();
        if state.per_second == 0 {
            return now;
        }
        let start = state.free_at.map_or(now, |free_at| free_at.max(now));
        let time = Duration::from_secs_f64(events as f64 / f64::from(state.per_second));
        state.free_at = Some(start + time);
        start
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_spread_over_time() {
        let limiter = Limiter::default();
        let now = Instant::now();
        assert_eq!(limiter.pass_at(1_000_000, now), now);
        assert_eq!(limiter.at_once(), usize::MAX);
        limiter.set(100);
        assert_eq!(limiter.at_once(), 100);
        assert_eq!(limiter.pass_at(50, now), now);
        assert_eq!(limiter.pass_at(10, now), now + Duration::from_millis(500));
        assert_eq!(limiter.pass_at(10, now + Duration::from_secs(9)), now + Duration::from_secs(9));
    }
}
