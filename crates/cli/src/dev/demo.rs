use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use headwater_api::{Client, Credentials, HeadAt};
use headwater_server::Ready;
use serde::Deserialize;

use super::Screen;
use crate::commands::query::Row;
use crate::failure::Failure;
use crate::play::{Fault, Player, Score, Variables};
use crate::queries::Queries;

/// The file that is played.
const FILE: &str = "demo.http";

/// Rows of a table that are shown at the end.
const ROWS: usize = 20;

/// How long a read model may take to come to where the log is, before it is shown.
const CATCH_UP: &str = "30s";

/// `demo.http`, read and ready to be played once the addresses are known.
pub(crate) struct Demo {
    path: PathBuf,
    text: String,
    given: Vec<(String, String)>,
}

impl Demo {
    /// Finds the file in `directories`. `given` are variables from the command line.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find(directories: &[PathBuf], given: Vec<(String, String)>) -> Result<Self> {
        let path = directories.iter().map(|directory| directory.join(FILE)).find(|path| path.exists());
        let Some(path) = path else {
            let message = format!("--demo plays {FILE}, and there is none in {}", list(directories));
            return Err(Failure::invalid(message).hint("docs/dev.md says how to write one").into());
        };
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::invalid(format!("read {}: {error}", path.display())))?;
        Ok(Self { path, text, given })
    }

    /// What is wrong in the file, with `streams` by name; the addresses need not be known for that.
    pub(crate) fn check<'s>(&self, streams: impl IntoIterator<Item = &'s str>) -> Result<(), Vec<Fault>> {
        let mut variables = vec![("server".to_owned(), String::new()), ("query".to_owned(), String::new())];
        variables.extend(streams.into_iter().map(|name| (format!("server-{name}"), String::new())));
        self.player(variables).map(drop)
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn player(&self, mut variables: Vec<(String, String)>) -> Result<Player, Vec<Fault>> {
        variables.extend(self.given.iter().cloned());
        Player::new(&self.text, &self.path, Variables::new(variables))
    }

    /// Plays the file against what is `ready`, and shows the read models at the end.
    ///
    /// # Errors
    /// When a request gets no answer, or standard output cannot be written.
    pub(crate) async fn play(&self, ready: &Ready, screen: &Screen<'_>) -> Result<Score> {
        let mut variables = vec![("query".to_owned(), ready.query.clone())];
        variables.extend(ready.streams.first().map(|stream| ("server".to_owned(), stream.url.clone())));
        variables.extend(
            ready.streams.iter().map(|stream| (format!("server-{}", stream.name), stream.url.clone())),
        );
        let player = self.player(variables);
        let mut player = player.map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            Failure::invalid(format!("{}: {}", self.path.display(), faults.join("; ")))
        })?;
        let score = player
            .play(|progress| Ok(screen.progress(&progress)?))
            .await
            .with_context(|| self.path.display().to_string())?;
        show_read_models(ready, screen).await?;
        screen.score(score.held, score.failed)?;
        Ok(score)
    }
}

/// The tables of all projections, as of where the logs are now.
async fn show_read_models(ready: &Ready, screen: &Screen<'_>) -> Result<()> {
    #[derive(Deserialize)]
    struct Page {
        rows: Vec<Row>,
        next: Option<String>,
    }
    let queries = Queries::new(&ready.query.parse().map_err(anyhow::Error::msg)?, Credentials::default())?;
    for projection in &ready.projections {
        let stream = ready.streams.iter().find(|stream| stream.name == projection.stream);
        let Some(stream) = stream else { continue };
        let head = Client::new(&stream.url)?.get_head(HeadAt::Now).await?;
        for table in &projection.tables {
            let mut url = queries.url(["v1", "projections", &projection.name, table])?;
            url.query_pairs_mut()
                .append_pair("limit", &ROWS.to_string())
                .append_pair("min_token", &head.token.to_string())
                .append_pair("timeout", CATCH_UP);
            let page: Page =
                queries.get_json(url).await.with_context(|| format!("query {}/{table}", projection.name))?;
            screen.table(&projection.name, table, &page.rows, page.next.is_some())?;
        }
    }
    Ok(())
}

/// Paths, for messages.
pub(crate) fn list(paths: &[impl AsRef<Path>]) -> String {
    paths.iter().map(|path| path.as_ref().display().to_string()).collect::<Vec<_>>().join(", ")
}
