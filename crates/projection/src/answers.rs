//! Whether the read model answers, looked at beside what is folded: nobody is to be sent here who cannot be answered.

use std::sync::Arc;
use std::time::Duration;

use headwater_core::Result;
use headwater_view::{Rollout, ViewStore};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often the store is asked.
const EVERY: Duration = Duration::from_secs(1);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Silence that may pass by itself: a connection that is cut, a server that fails over.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks until it is dropped.
pub(crate) struct Answers {
    silence: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Answers {
    pub(crate) fn follow(projection: String, store: Arc<dyn ViewStore>) -> Self {
        let (sender, silence) = watch::channel(None);
        let task = tokio::spawn(async move {
            let mut since = None;
            loop {
                let asked = Instant::now();
                let answer = tokio::time::timeout(ANSWER, store.rollout()).await;
                tell(&projection, &sender, &mut since, asked, answer);
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { silence, task }
    }

    /// Why there is no answer, for as long as there is none; not of what passes within seconds.
    pub(crate) fn silence(&self) -> watch::Receiver<Option<String>> {
        self.silence.clone()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn tell(
    projection: &str,
    sender: &watch::Sender<Option<String>>,
    since: &mut Option<Instant>,
    asked: Instant,
    answer: Result<Result<Rollout>, tokio::time::error::Elapsed>,
) {
    let why = match answer {
        Ok(Ok(_)) => {
            *since = None;
            if sender.send_replace(None).is_some() {
                tracing::info!(projection, "the read model answers again");
            }
            return;
        }
        Ok(Err(error)) => error.to_string(),
        Err(tokio::time::error::Elapsed { .. }) => format!("no answer within {ANSWER:?}"),
    };
    tracing::debug!(projection, why, "the read model does not answer");
    if since.get_or_insert(asked).elapsed() >= PATIENCE && sender.send_replace(Some(why.clone())).is_none() {
        tracing::warn!(
            projection,
            why,
            "the read model does not answer: this process is not ready until it does"
        );
    }
}

#[cfg(test)]
mod tests {
    use headwater_core::Error;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_failure_is_no_silence_and_an_answer_ends_one() {
        let (sender, silence) = watch::channel(None);
        let mut since = None;
        let mut look = |answer: Result<Rollout>| {
            tell("p", &sender, &mut since, Instant::now(), Ok(answer));
            silence.borrow().clone()
        };
        let lost = || Err(Error::unavailable("gone"));
        assert_eq!(look(lost()), None);
        assert_eq!(look(Ok(Rollout::default())), None);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(look(lost()), None);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(look(lost()).as_deref(), Some("gone"));
        assert_eq!(look(Ok(Rollout::default())), None);
    }
}
