//! What our own programs show to each other, and whom they trust.

use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use headwater_api::{Client, CredentialFiles, Credentials};
use headwater_core::{Error, RetryPolicy};
use headwater_testkit::event_store::{EventStore, QueryWorker};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::program;
use headwater_testkit::proofs::{Authority, Issuer};
use serde_json::{Value, json};
use tokio::process::Command;

use super::world::{ACCESS, ADA, Answer, ISSUER, SERVICE, World, bearer, curl, keeps, one, until};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_follows_over_tls_by_a_service_account_and_is_administered_on_its_own_machine_alone()
-> Result<()> {
    let world = World::new(ACCESS)?;
    let store = world.store().await?;
    let orders = world.issuer.account("shop", "orders")?;
    world.file("worker-token", &orders)?;
    for _ in 0..3 {
        world.append(&store, &["--header", &bearer(&orders)]).await?.is(201);
    }
    let words = [world.served(), world.calling("worker-token")].concat();
    let (manifests, data) = (world.path("manifests"), world.path("rows"));
    let start = || QueryWorker::secured(&manifests, store.url(), &data, &words);
    let mut worker = start().await?;
    worker.answers().await?;
    let rows = format!("{}/v1/projections/totals/totals/counter-1", worker.url());
    until("three events", async || {
        let answer = world.curl(&rows, &["--header", &bearer(ADA)]).await?;
        Ok(answer.status == 200 && answer.body.contains(r#""total":"3""#))
    })
    .await?;
    world.curl(&rows, &[]).await?.refused(401, "needs the verb Query");
    let reader = world.issuer.account("shop", "reader")?;
    world.curl(&rows, &["--header", &bearer(&reader)]).await?.refused(403, "needs the verb Query");
    world.curl(&format!("{}/openapi.json", worker.url()), &[]).await?.refused(401, "needs the verb Query");
    world.curl(&format!("{}/readyz", worker.url()), &[]).await?.is(200);

    // It goes on after its token was renewed, and the old one is worth nothing any more.
    let issuer = Issuer::new(ISSUER, "key-2")?;
    let renewed = issuer.account("shop", "orders")?;
    let both = |name: &str| serde_json::from_str::<Value>(name).map(|set| set["keys"][0].clone());
    let keys = json!({"keys": [both(&world.issuer.jwks())?, both(&issuer.jwks())?]});
    world.file("jwks.json", &keys.to_string())?;
    until("both keys", async || {
        Ok(world.append(&store, &["--header", &bearer(&renewed)]).await?.status == 201)
    })
    .await?;
    world.file("worker-token", &renewed)?;
    world.file("jwks.json", &issuer.jwks())?;
    until("the new key alone", async || {
        Ok(world.append(&store, &["--header", &bearer(&orders)]).await?.status == 401)
    })
    .await?;
    world.append(&store, &["--header", &bearer(ADA)]).await?.is(201);
    let events = world.curl(&format!("{}/v1/events", store.url()), &["--header", &bearer(ADA)]).await?;
    let written = serde_json::from_str::<Value>(&events.body)?["events"].as_array().context("events")?.len();
    until("what came after", async || {
        let answer = world.curl(&rows, &["--header", &bearer(ADA)]).await?;
        Ok(answer.body.contains(&format!(r#""total":"{written}""#)))
    })
    .await?;

    // Decisions are taken on the listener of administration, and there they are, without a proof.
    let rebuild = "/v1/admin/projections/totals/rebuild";
    let (at, ada) = (format!("{}{rebuild}", worker.url()), bearer(ADA));
    let answer = world.curl(&at, &["--request", "POST", "--header", &ada]).await?;
    answer.refused(403, &format!("administration is at {}", worker.admin_url()));
    let status = format!("{}/v1/admin/projections/totals", worker.url());
    world.curl(&status, &["--header", &bearer(ADA)]).await?.refused(403, "needs the verb Admin");
    ensure!(worker.admin_url().starts_with("http://127.0.0.1:"), "{}", worker.admin_url());
    curl(&["--request", "POST", &format!("{}{rebuild}", worker.admin_url())]).await?.is(200);
    keeps(worker.process(), &[ADA, &orders, &renewed]);
    keeps(store.process(), &[ADA, &orders, &renewed]);
    ensure!(worker.into_process().terminate().await?.success(), "the worker does not end well");

    // One that may not read does not start, and says why.
    world.file("worker-token", &issuer.account("other", "worker")?)?;
    let refused = start().await?;
    let why = |line: &str| line.starts_with("error: ").then(|| line.to_owned());
    let said = refused.into_process().line("why it ends", why).await?;
    ensure!(said.contains("needs the verb Read") && said.contains("service account other/worker"), "{said}");
    Ok(())
}

/// A log of its own that several event stores write, whose certificates have the Service's name alone; they are reached by address. How each
/// is told so.
fn shared_log(world: &World) -> Result<Vec<String>> {
    world.authority.mount(&world.path("tls"), SERVICE, &[SERVICE])?;
    world.file("store-token", &world.issuer.account("shop", "orders")?)?;
    let schema = format!("hw_{}", uuid::Uuid::new_v4().simple());
    let manifest = world.path("manifests/eventstream.yaml");
    let text = std::fs::read_to_string(&manifest)?;
    let text = text.replace("key: uri}}", &format!("key: uri}}, schema: {schema}}}"));
    std::fs::write(&manifest, text)?;
    let mut words = [world.served(), world.calling("store-token")].concat();
    words.extend(["--peer-name".to_owned(), SERVICE.to_owned()]);
    Ok(words)
}

/// Asks an event store by the Service's name.
async fn ask(world: &World, store: &EventStore, path: &str, more: &[&str]) -> Result<Answer> {
    let ca = world.text("tls/ca.crt");
    let port = store.url().rsplit(':').next().context("a port")?;
    let to = format!("{SERVICE}:{port}:127.0.0.1:{port}");
    let url = format!("https://{SERVICE}:{port}{path}");
    let to = ["--connect-to", &to, "--cacert", &ca, &url];
    curl(&to.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_event_stores_that_are_given_tls_one_by_one_refuse_nobody() -> Result<()> {
    let world = World::new(ACCESS)?;
    let words = shared_log(&world)?;
    let server = Postgres::shared()?;
    let (manifests, database) = (world.path("manifests"), server.url());
    let plain = ["--namespace", "shop"].map(str::to_owned);
    let plain = EventStore::told(&manifests, &database, &plain).await?;
    let secured = EventStore::told(&manifests, &database, &words).await?;
    let body = json!({"expected": "any", "events": [{"type": "Added", "data": {"amount": 1}}]}).to_string();
    let ada = bearer(ADA);
    let more = ["--header", "content-type: application/json", "--data", &body, "--header", &ada];
    let paths: Vec<String> = (0..20).map(|stream| format!("/v1/streams/counter-{stream}/events")).collect();
    let appends = join_all(paths.iter().map(|path| ask(&world, &secured, path, &more)));
    let ends = async {
        // What the one in plain text writes cannot be sent to it.
        let said = || secured.process().output().contains("spoken to in plain text");
        until("an append that cannot be forwarded", async || Ok(said())).await?;
        plain.into_process().terminate().await.map(drop)
    };
    let (appended, ended) = tokio::join!(appends, ends);
    ended?;
    for answer in appended {
        answer?.is(201);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_event_stores_forward_to_each_other_over_tls_in_their_own_name() -> Result<()> {
    let world = World::new(ACCESS)?;
    let words = shared_log(&world)?;
    let server = Postgres::shared()?;
    let (manifests, database) = (world.path("manifests"), server.url());
    let stores = [
        EventStore::told(&manifests, &database, &words).await?,
        EventStore::told(&manifests, &database, &words).await?,
    ];
    let ca = world.text("tls/ca.crt");
    let ask = async |store: &EventStore, path: &str, more: &[&str]| ask(&world, store, path, more).await;
    let held = async |store: &EventStore| {
        let metrics = ask(store, "/metrics", &[]).await?.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix("headwater_log_partitions_held "));
        anyhow::Ok(line.and_then(|number| number.parse::<u32>().ok()).unwrap_or_default())
    };
    until("a share for each", async || Ok(held(&stores[0]).await? > 0 && held(&stores[1]).await? > 0))
        .await?;
    let body = json!({"expected": "any", "events": [{"type": "Added", "data": {"amount": 1}}]}).to_string();
    let (json, ada) = (["--header", "content-type: application/json", "--data", &body], bearer(ADA));
    for stream in 0..20 {
        let path = format!("/v1/streams/counter-{stream}/events");
        // The caller is let through where it asks, and needs no more.
        let more = [json[0], json[1], json[2], json[3], "--header", &ada];
        ask(&stores[0], &path, &more).await?.is(201);
        ask(&stores[0], &path, &json).await?.refused(401, "needs the verb Append");
    }
    let metrics = ask(&stores[0], "/metrics", &[]).await?.body;
    let forwarded = metrics.lines().find_map(|line| line.strip_prefix("headwater_appends_forwarded_total "));
    ensure!(forwarded.is_some_and(|number| number != "0"), "nothing was forwarded:\n{metrics}");
    // One that proves nothing to the others says that this is its own fault, and not the caller's.
    let words = [world.served(), ["--ca", &ca, "--peer-name", SERVICE].map(str::to_owned).into()].concat();
    let mute = EventStore::told(&manifests, &database, &words).await?;
    until("an append that it may not forward", async || {
        for stream in 0..20 {
            let path = format!("/v1/streams/counter-{stream}/events");
            let answer = ask(&mute, &path, &[json[0], json[1], json[2], json[3], "--header", &ada]).await?;
            if answer.body.contains("does not take appends from this one") {
                ensure!(!matches!(answer.status, 401 | 403), "{answer:?}");
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await?;
    for store in stores.iter().chain([&mute]) {
        keeps(store.process(), &[ADA]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_clients_trust_whom_they_are_told_to_and_nobody_else() -> Result<()> {
    let world = World::new(ACCESS)?;
    let store = world.store().await?;
    let ada = Some(world.file("ada-token", ADA)?);
    let stranger = Some(world.file("stranger.pem", &Authority::new()?.pem())?);
    let ours = Some(world.path("tls/ca.crt"));
    let client = |files| anyhow::Ok(Client::with_credentials(store.url(), &Credentials::new(files)?)?);
    let once = RetryPolicy { attempts: 1, ..Client::RETRY };
    for (what, files) in [
        (
            "another authority",
            CredentialFiles { ca: stranger, token: ada.clone(), ..CredentialFiles::default() },
        ),
        ("the system's authorities", CredentialFiles { token: ada.clone(), ..CredentialFiles::default() }),
        (
            "another name",
            CredentialFiles {
                ca: ours.clone(),
                token: ada.clone(),
                server_name: Some("elsewhere.shop.svc".to_owned()),
                ..CredentialFiles::default()
            },
        ),
    ] {
        let error = client(files)?.with_retry(once).append(&one()).await.err().context(what)?;
        let said = error.to_string();
        ensure!(matches!(error, Error::Unavailable { .. }) && said.contains("certificate"), "{what}: {said}");
    }
    let events = world.curl(&format!("{}/v1/events", store.url()), &["--header", &bearer(ADA)]).await?;
    ensure!(events.body.contains(r#""events":[]"#), "{events:?}");

    // By a certificate, and by the command.
    let (certificate, key) = world.authority.issue("writer", &[])?;
    let (certificate, key) = (world.file("writer.crt", &certificate)?, world.file("writer.key", &key)?);
    let identity = Some((certificate, key));
    let writer = client(CredentialFiles { ca: ours, identity, ..CredentialFiles::default() })?;
    writer.append(&one()).await?;
    let command = async |words: &[&str]| {
        let output = Command::new(program("headwater")?).args(words).output().await?;
        let said = String::from_utf8(output.stdout)? + &String::from_utf8(output.stderr)?;
        anyhow::Ok((output.status.success(), said))
    };
    let (ca, token) = (world.text("tls/ca.crt"), world.text("ada-token"));
    let (certificate, key) = (world.text("writer.crt"), world.text("writer.key"));
    let by_certificate =
        ["--server", store.url(), "--ca", ca.as_str(), "--cert", certificate.as_str(), "--key", key.as_str()];
    let append = ["append", "counter-1", "--type", "Added", "--data", r#"{"amount": 1}"#];
    let (done, said) = command(&[&append[..], &by_certificate[..]].concat()).await?;
    ensure!(done, "{said}");
    let (done, said) = command(&[&["read", "counter-1"], &by_certificate[..]].concat()).await?;
    ensure!(!done && said.contains("needs the verb Read"), "{said}");

    let words = [world.served(), world.calling("ada-token")].concat();
    let mut worker =
        QueryWorker::secured(&world.path("manifests"), store.url(), &world.path("rows"), &words).await?;
    worker.answers().await?;
    let asked = ["--query-server", worker.url(), "--ca", ca.as_str(), "--token-file", token.as_str()];
    until("the rows", async || {
        let (done, said) = command(&[&["query", "totals/totals"], &asked[..]].concat()).await?;
        Ok(done && said.contains("counter-1") && said.contains("counter-2"))
    })
    .await?;
    let (done, said) = command(&[&["projections", "list"], &asked[..]].concat()).await?;
    ensure!(!done && said.contains("needs the verb Admin"), "{said}");
    let (done, said) = command(&["query", "totals/totals", "--query-server", worker.url()]).await?;
    ensure!(!done && said.contains("certificate"), "{said}");
    let plain = store.url().replace("https://127.0.0.1", "http://store.shop.svc");
    let (done, said) = command(&["read", "counter-1", "--server", &plain, "--token-file", &token]).await?;
    ensure!(!done && said.contains("would not be encrypted"), "{said}");
    keeps(worker.process(), &[ADA]);
    keeps(store.process(), &[ADA]);
    Ok(())
}
