use std::pin::pin;

use anyhow::{Error, Result};
use headwater_server::{Notice, Ready};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Demo, Screen};
use crate::console;
use crate::failure::Failure;
use crate::play::Score;
use crate::procfile::Said;

/// What goes on between the start and the end: it is shown, and judged at the end.
pub(crate) struct Session<'a> {
    screen: &'a Screen<'a>,
    notices: mpsc::Receiver<Notice>,
    said: mpsc::Receiver<Said>,
    /// Programs that ended with something else than 0.
    failed_programs: Vec<String>,
    score: Option<Score>,
    /// The first thing that went wrong.
    failure: Option<Error>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        screen: &'a Screen<'a>,
        notices: mpsc::Receiver<Notice>,
        said: mpsc::Receiver<Said>,
    ) -> Self {
        Self { screen, notices, said, failed_programs: Vec::new(), score: None, failure: None }
    }

    /// Does `work`, and prints what is told meanwhile.
    pub(crate) async fn showing<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                // A reader that has gone away must not keep anything from ending.
                shown = self.show_next() => if let Err(error) = shown { self.fail(error) },
            }
        }
    }

    /// Something went wrong; the first is what is reported.
    pub(crate) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
    }

    /// Until a signal, the end of the server, or, where `exit`, of the demo.
    pub(crate) async fn run(
        &mut self,
        demo: Option<&Demo>,
        ready: &Ready,
        server_ended: &CancellationToken,
        shutdown: &CancellationToken,
        exit: bool,
    ) {
        let screen = self.screen;
        let mut playing = pin!(async {
            match demo {
                Some(demo) => demo.play(ready, screen).await,
                None => std::future::pending().await,
            }
        });
        let mut played = false;
        while !(played && exit) && self.failure.is_none() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = server_ended.cancelled() => return,
                shown = self.show_next() => {
                    if let Err(error) = shown {
                        self.fail(error);
                    }
                    // Without a program that the demo needs it can only wait for its time limits.
                    if exit && !self.failed_programs.is_empty() {
                        return;
                    }
                }
                score = &mut playing, if !played => {
                    played = true;
                    match score {
                        Ok(score) => self.score = Some(score),
                        Err(error) if exit => self.fail(error),
                        Err(error) => eprintln!("error: {error:#}"),
                    }
                }
            }
        }
    }

    /// Prints what was told last, and says how it went; `exit`: it was to end with a demo that holds.
    ///
    /// # Errors
    /// What went wrong first.
    pub(crate) fn end(mut self, exit: bool) -> Result<()> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        while let Ok(notice) = self.notices.try_recv() {
            self.screen.notice(&notice)?;
        }
        self.screen.stopped()?;
        let failed = match self.score {
            _ if !exit => return Ok(()),
            _ if !self.failed_programs.is_empty() => self.failed_programs.join(", "),
            Some(Score { failed: 0, .. }) => return Ok(()),
            Some(score) => format!("{} did not hold", console::count(u64::from(score.failed), "expectation")),
            None => "it was interrupted".to_owned(),
        };
        Err(Failure::failed(format!("the demo failed: {failed}")).into())
    }

    /// Prints what comes next; pends for ever when nothing can come any more.
    async fn show_next(&mut self) -> Result<()> {
        tokio::select! {
            // What the server tells comes first: a program that it has started speaks after it is ready.
            biased;
            Some(notice) = self.notices.recv() => Ok(self.screen.notice(&notice)?),
            Some(said) = self.said.recv() => {
                if let Said::Ended { name, code, .. } = &said && *code != Some(0) {
                    self.failed_programs.push(format!("{name} ended with {}", said.fate()));
                }
                Ok(self.screen.said(&said)?)
            }
            else => std::future::pending().await,
        }
    }
}
