//! Every command of the README is run, in its order, as it stands there; and those of the tour of `docs/security.md`.

use anyhow::Result;
use headwater_testkit::tour::every_command_works;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_readme_works() -> Result<()> {
    every_command_works("README.md", &[], &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_tour_of_security_works() -> Result<()> {
    every_command_works("docs/security.md", &[], &[]).await
}
