//! Every command of the page about Kubernetes.

use anyhow::Result;
use headwater_testkit::nats::Nats;
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::program;
use headwater_testkit::tour::every_command_works;

use crate::kubectl::{Namespace, alone, helm_folder, kubectl_folder, url_for_pods};

/// Alone, since it installs the chart, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_the_page_about_kubernetes_works() -> Result<()> {
    let _all = alone().await?;
    let (database, broker) = (Postgres::start()?, Nats::start("")?);
    let mut namespace = Namespace::new("tour")?;
    namespace.reach("db", 5432, database.port())?;
    namespace.reach("nats", 4222, broker.port())?;
    let url = url_for_pods(&database, "db");
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::symlink(program("headwater")?, folder.path().join("kubectl-headwater"))?;
    let folders = [folder.path().to_owned(), kubectl_folder()?, helm_folder()?];
    let configuration = namespace.configuration(folder.path())?;
    let variables = [("DATABASE_URL", url), ("KUBECONFIG", configuration)];
    every_command_works("docs/kubernetes.md", &folders, &variables).await
}
