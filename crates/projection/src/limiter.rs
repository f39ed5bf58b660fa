use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Spreads events over time: at most so many a second, over all who share it.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    state: Mutex<State>,
    /// The limit is another.
    changed: Notify,
}

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
        let mut state = self.lock();
        if state.per_second == per_second {
            return;
        }
        // Whoever waits under the limit before asks anew.
        *state = State { per_second, free_at: None };
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until `events` more may pass.
    pub(crate) async fn pass(&self, events: usize) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let passes_at = self.pass_at(events, Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(passes_at) => return,
                () = changed => {}
            }
        }
    }

    /// How many events may pass together: those of a second.
    pub(crate) fn at_once(&self) -> usize {
        match self.lock().per_second {
            0 => usize::MAX,
            limit => limit as usize,
        }
    }

    /// When `events` more may pass.
    fn pass_at(&self, events: usize, now: Instant) -> Instant {
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
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_let_through_when_the_limit_is_lifted() {
        let limiter = std::sync::Arc::new(Limiter::default());
        limiter.set(1);
        limiter.pass(3_600).await;
        let waiting = tokio::spawn({
            let limiter = limiter.clone();
            async move {
                limiter.pass(1).await;
                Instant::now()
            }
        });
        let now = Instant::now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        limiter.set(0);
        assert_eq!(waiting.await.unwrap(), now + Duration::from_secs(1));
    }
}
