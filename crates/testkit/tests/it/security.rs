//! Who may call, asked of the real programs: by curl, by the typed client, and by the command line.

mod mixed;
mod our_calls;
mod world;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use headwater_api::HeadAt;
use headwater_core::Error;
use headwater_testkit::event_store::EventStore;
use headwater_testkit::process::program;
use headwater_testkit::proofs::{Authority, Issuer, mount};
use serde_json::{Value, json};
use tokio::process::Command;

use self::world::{ACCESS, ADA, ISSUER, OTHER, SERVICE, World, bearer, curl, keeps, one, until};
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_proves_nothing_or_something_else_is_refused_and_told_what_is_missing() -> Result<()> {
    let world = World::new(ACCESS)?;
    let store = world.store().await?;
    let orders = world.issuer.account("shop", "orders")?;
    let claims = |change: &dyn Fn(&mut Value)| {
        let mut claims = world.issuer.claims("system:serviceaccount:shop:orders")?;
        change(&mut claims);
        anyhow::Ok(claims)
    };
    let signed = |change: &dyn Fn(&mut Value)| world.issuer.sign(&claims(change)?);
    let now = claims(&|_| {})?["iat"].as_u64().context("a time")?;

    // Plain text is not answered.
    let plain = store.url().replace("https://", "http://");
    ensure!(curl(&[&format!("{plain}/healthz")]).await.is_err(), "plain text was answered");

    let stranger = Issuer::new(ISSUER, "key-1")?.account("shop", "orders")?;
    let unknown_key = Issuer::new(ISSUER, "key-2")?.account("shop", "orders")?;
    let unsigned = world.issuer.sign_under(&json!({"alg": "none"}), &claims(&|_| {})?)?;
    let (unsigned_head, _) = unsigned.rsplit_once('.').context("three parts")?;
    let symmetric = world.issuer.sign_under(&json!({"alg": "HS256", "kid": "key-1"}), &claims(&|_| {})?)?;
    let mut other_claims = orders.split('.').map(str::to_owned).collect::<Vec<_>>();
    other_claims[1] = world.issuer.account("shop", "reader")?.split('.').nth(1).context("claims")?.to_owned();
    for (token, part) in [
        (OTHER.to_owned(), "the bearer token is not known here"),
        (ADA[1..].to_owned(), "the bearer token is not known here"),
        (signed(&|it| it["aud"] = json!(["https://kubernetes.default.svc"]))?, "it is for another audience"),
        (signed(&|it| drop(it.as_object_mut().map(|it| it.remove("aud"))))?, "it has no claim aud"),
        (signed(&|it| it["iss"] = json!("https://elsewhere"))?, "it is of another issuer"),
        (signed(&|it| it["exp"] = json!(now - 60))?, "it has expired"),
        (signed(&|it| drop(it.as_object_mut().map(|it| it.remove("exp"))))?, "it has no claim exp"),
        (signed(&|it| it["nbf"] = json!(now + 600))?, "it is not valid yet"),
        (stranger, "its signature is not by the issuer"),
        (unknown_key, "a key that is not among the issuer's"),
        (other_claims.join("."), "its signature is not by the issuer"),
        (unsigned.clone(), "the JSON Web Token is not accepted"),
        (format!("{unsigned_head}."), "the JSON Web Token is not accepted"),
        (symmetric, "it is not signed by RS256 or ES256"),
    ] {
        let answer = world.append(&store, &["--header", &bearer(&token)]).await?;
        answer.refused(401, part);
        let secret = token.rsplit('.').next().unwrap_or_default();
        ensure!(secret.is_empty() || !answer.body.contains(secret), "{answer:?}");
    }
    world.append(&store, &[]).await?.refused(401, "needs the verb Append, and the caller proves nothing");
    world.append(&store, &["--header", "authorization: Basic YTpi"]).await?.refused(401, "no bearer token");
    // A proof that does not hold is refused, although the certificate would do.
    world.authority.mount(&world.path("writer"), "writer", &[])?;
    let (certificate, key) = (world.text("writer/tls.crt"), world.text("writer/tls.key"));
    let writer = ["--cert", certificate.as_str(), "--key", key.as_str()];
    let other = bearer(OTHER);
    let with_token = [writer[0], writer[1], writer[2], writer[3], "--header", &other];
    world.append(&store, &with_token).await?.refused(401, "is not known here");

    // Known, and not allowed.
    let reader = world.issuer.account("shop", "reader")?;
    let answer = world.append(&store, &["--header", &bearer(&reader)]).await?;
    answer.refused(
        403,
        "needs the verb Append, which spec.access does not give to service account shop/reader",
    );
    let elsewhere = world.issuer.account("other", "orders")?;
    world
        .append(&store, &["--header", &bearer(&elsewhere)])
        .await?
        .refused(403, "service account other/orders");
    world.authority.mount(&world.path("reader"), "someone", &["reader.shop.svc"])?;
    let (certificate, key) = (world.text("reader/tls.crt"), world.text("reader/tls.key"));
    let answer = world.append(&store, &["--cert", &certificate, "--key", &key]).await?;
    answer.refused(403, "certificate name \"reader.shop.svc\" and certificate name \"someone\"");
    // A certificate of another authority is none.
    Authority::new()?.mount(&world.path("stranger"), "writer", &[])?;
    let (certificate, key) = (world.text("stranger/tls.crt"), world.text("stranger/tls.key"));
    ensure!(
        world.append(&store, &["--cert", &certificate, "--key", &key]).await.is_err(),
        "a stranger wrote"
    );

    // Known, and allowed.
    world.append(&store, &["--header", &bearer(&orders)]).await?.is(201);
    world.append(&store, &["--header", &bearer(ADA)]).await?.is(201);
    world.append(&store, &writer).await?.is(201);
    world.append(&store, &["--http1.1", "--header", &bearer(ADA)]).await?.is(201);
    let events = format!("{}/v1/events", store.url());
    world.curl(&events, &["--header", &bearer(&reader)]).await?.is(200);
    world.curl(&events, &writer).await?.refused(403, "needs the verb Read");
    world.curl(&events, &[]).await?.refused(401, "needs the verb Read");
    world.curl(&events, &["--request", "DELETE", "--header", &bearer(ADA)]).await?.refused(403, "to nobody");

    // What platforms ask is answered to anybody.
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        world.curl(&format!("{}{path}", store.url()), &[]).await?.is(200);
    }
    let metrics = world.curl(&format!("{}/metrics", store.url()), &[]).await?.body;
    let counted = |line: &str| metrics.lines().any(|it| it.starts_with(line));
    ensure!(counted("headwater_calls_refused_total{reason=\"unauthenticated\"} 18"), "{metrics}");
    ensure!(counted("headwater_calls_refused_total{reason=\"forbidden\"} 5"), "{metrics}");
    ensure!(counted("headwater_tls_certificate_not_after_seconds "), "{metrics}");

    // gRPC says the same in its own words.
    let as_reader = world.client(store.url(), Some(world.file("reader-token", &reader)?))?;
    as_reader.get_head(HeadAt::Now).await?;
    let refused = as_reader.append(&one()).await;
    let said = "/headwater.eventstore.v1.EventStore/Append needs the verb Append";
    ensure!(
        matches!(&refused, Err(Error::PermissionDenied { message }) if message.contains(said)),
        "{refused:?}"
    );
    let refused = world.client(store.url(), None)?.get_head(HeadAt::Now).await;
    ensure!(matches!(&refused, Err(Error::Unauthenticated { .. })), "{refused:?}");
    let as_orders = world.client(store.url(), Some(world.file("orders-token", &orders)?))?;
    as_orders.append(&one()).await?;

    // And so does the command line.
    let headwater = async |token: &str| {
        let words =
            ["append", "counter-3", "--type", "Added", "--data", r#"{"amount": 1}"#, "--server", store.url()];
        let output =
            Command::new(program("headwater")?).args(words).args(world.calling(token)).output().await?;
        anyhow::Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, said) = headwater("reader-token").await?;
    ensure!(code == Some(6) && said.contains("needs the verb Append"), "{code:?} {said}");
    let (code, said) = headwater("orders-token").await?;
    ensure!(code == Some(0), "{code:?} {said}");

    keeps(store.process(), &[ADA, OTHER, &orders, &reader]);
    ensure!(store.into_process().terminate().await?.success(), "it does not end well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anonymous_callers_are_let_in_when_they_are_named_and_for_what_they_are() -> Result<()> {
    let world = World::new("\n  access: [{subject: {type: Anonymous}, verbs: [Read]}]")?;
    let store = world.store().await?;
    world.curl(&format!("{}/v1/events", store.url()), &[]).await?.is(200);
    world.client(store.url(), None)?.get_head(HeadAt::Now).await?;
    world.append(&store, &[]).await?.refused(401, "needs the verb Append");
    world.append(&store, &["--header", &bearer(ADA)]).await?.refused(403, "token \"ada\"");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_access_the_namespaces_own_service_accounts_may_do_all_but_administer() -> Result<()> {
    let world = World::new("")?;
    let store = world.store().await?;
    let own = world.issuer.account("shop", "anybody")?;
    world.append(&store, &["--header", &bearer(&own)]).await?.is(201);
    let other = world.issuer.account("other", "anybody")?;
    world.append(&store, &["--header", &bearer(&other)]).await?.refused(403, "service account other/anybody");
    world.append(&store, &["--header", &bearer(ADA)]).await?.refused(403, "token \"ada\"");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_several_issuers_are_told_apart_and_only_the_first_names_service_accounts() -> Result<()> {
    let world = World::new(&format!("{ACCESS}  - {{subject: {{type: JWT, name: bob}}, verbs: [Append]}}\n"))?;
    let second = Issuer::new("https://id.example", "key-1")?;
    // What it has written wrong keeps nobody else out.
    let jwks = world.file("second.json", "{}")?;
    let mut words = world.served();
    words.extend(
        [
            ("--jwt-audience", "headwater,other"),
            ("--jwt-issuer", second.name.as_str()),
            ("--jwt-jwks", jwks.to_str().context("a path of UTF-8")?),
            ("--jwt-audience", "shop"),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()]),
    );
    let store = EventStore::secured(&world.path("manifests"), &world.path("events"), &words).await?;
    let by = |issuer: &Issuer, of: &str, subject: &str, audience: &str| {
        let mut claims = issuer.claims(subject)?;
        claims["iss"] = json!(of);
        claims["aud"] = json!([audience]);
        Ok::<_, anyhow::Error>(bearer(&issuer.sign(&claims)?))
    };
    let account = "system:serviceaccount:shop:orders";
    let bob = by(&second, &second.name, "bob", "shop")?;
    world.append(&store, &["--header", &bob]).await?.refused(401, "not among the issuer's");
    world.file("second.json", &second.jwks())?;
    until("the keys of the second", async || {
        Ok(world.append(&store, &["--header", &bob]).await?.status == 201)
    })
    .await?;
    for token in [
        by(&world.issuer, ISSUER, account, "headwater")?,
        by(&world.issuer, ISSUER, account, "other")?,
        by(&second, &second.name, "bob", "shop")?,
    ] {
        world.append(&store, &["--header", &token]).await?.is(201);
    }
    for (token, status, part) in [
        (by(&second, &second.name, account, "shop")?, 403, format!("JWT subject \"{account}\"")),
        (by(&second, &second.name, "bob", "headwater")?, 401, "it is for another audience".to_owned()),
        (by(&second, ISSUER, account, "headwater")?, 401, "its signature is not by the issuer".to_owned()),
        (
            by(&world.issuer, &second.name, "bob", "shop")?,
            401,
            "its signature is not by the issuer".to_owned(),
        ),
        (by(&second, "https://third.example", "bob", "shop")?, 401, "it is of another issuer".to_owned()),
    ] {
        world.append(&store, &["--header", &token]).await?.refused(status, &part);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_tokens_and_keys_are_renewed_under_a_running_server_which_refuses_nobody() -> Result<()>
{
    let world = World::new(ACCESS)?;
    let first_ca = world.file("first.pem", &world.authority.pem())?;
    let store = world.store().await?;
    let health = format!("{}/healthz", store.url());
    let ca_is = async |pem: &Path| {
        let pem = pem.to_string_lossy().into_owned();
        anyhow::Ok(curl(&["--cacert", &pem, &health]).await.is_ok())
    };
    ensure!(ca_is(&first_ca).await?, "the first certificate is not served");

    // Another authority's certificate takes its place. Who trusts both is served throughout.
    let second = Authority::new()?;
    let second_ca = world.file("second.pem", &second.pem())?;
    let both = world.file("both.pem", &format!("{}{}", world.authority.pem(), second.pem()))?;
    let both = both.to_string_lossy().into_owned();
    second.mount(&world.path("tls"), SERVICE, &["127.0.0.1"])?;
    until("the second certificate", async || {
        curl(&["--cacert", &both, &health]).await?.is(200);
        ca_is(&second_ca).await
    })
    .await?;
    ensure!(!ca_is(&first_ca).await?, "the first certificate is still served");

    // What cannot be used changes nothing but the metric and the log.
    let metric = async |line: &str| {
        let metrics = curl(&["--cacert", &both, &format!("{}/metrics", store.url())]).await?.body;
        anyhow::Ok(metrics.lines().any(|it| it == line))
    };
    let (other, _) = second.issue(SERVICE, &["127.0.0.1"])?;
    let key = std::fs::read_to_string(world.path("tls/tls.key"))?;
    mount(&world.path("tls"), &[("tls.crt", &other), ("tls.key", &key), ("ca.crt", &second.pem())])?;
    until("the fault", async || {
        metric("headwater_reloads_total{of=\"certificate\",result=\"failed\"} 1").await
    })
    .await?;
    ensure!(ca_is(&second_ca).await?, "the second certificate is not served any more");
    ensure!(metric("headwater_reloads_total{of=\"certificate\",result=\"ok\"} 1").await?, "not counted");
    ensure!(store.process().output().contains("what they held before is kept"), "nothing was logged");
    second.mount(&world.path("tls"), SERVICE, &["127.0.0.1"])?;

    // Tokens: the new one is let in, and the old one no more.
    world.append(&store, &["--header", &bearer(ADA)]).await?.is(201);
    world.file("tokens.yaml", &format!("ada: {OTHER}\n"))?;
    until("the new token", async || {
        Ok(world.append(&store, &["--header", &bearer(OTHER)]).await?.status == 201)
    })
    .await?;
    world.append(&store, &["--header", &bearer(ADA)]).await?.refused(401, "is not known here");

    // Keys: likewise, although the old token had been accepted, and would hold for an hour.
    let old = world.issuer.account("shop", "orders")?;
    world.append(&store, &["--header", &bearer(&old)]).await?.is(201);
    let issuer = Issuer::new(ISSUER, "key-2")?;
    world.file("jwks.json", &issuer.jwks())?;
    let new = issuer.account("shop", "orders")?;
    until(
        "the new key",
        async || Ok(world.append(&store, &["--header", &bearer(&new)]).await?.status == 201),
    )
    .await?;
    world.append(&store, &["--header", &bearer(&old)]).await?.refused(401, "not among the issuer's");
    keeps(store.process(), &[ADA, OTHER, &old, &new]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_machines_are_served_only_by_tls_and_when_callers_can_prove_who_they_are() -> Result<()> {
    let world = World::new(ACCESS)?;
    let refused = async |more: &[&str], part: &str| -> Result<()> {
        let output = Command::new(program("headwater-eventstore")?)
            .arg(world.path("manifests"))
            .args(["--bus", "none", "--data-dir", &world.text("events")])
            .args(more)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains(part), "no {part:?} in {said:?}");
        Ok(())
    };
    let (certificate, key) = (world.text("tls/tls.crt"), world.text("tls/tls.key"));
    let tls = ["--tls-cert", certificate.as_str(), "--tls-key", key.as_str()];
    let everywhere = ["--listen", "0.0.0.0:0"];
    let tokens = world.text("tokens.yaml");
    refused(&everywhere, "without authentication: say how callers prove who they are").await?;
    refused(&[&everywhere[..], &tls[..]].concat(), "without authentication").await?;
    let tokened = [&everywhere[..], &["--bearer-tokens", &tokens][..]].concat();
    refused(&tokened, "would not be encrypted: give --tls-cert").await?;
    refused(&["--tls-cert", &key, "--tls-key", &key], "tls-cert: ").await?;
    refused(&["--tls-cert", &certificate, "--tls-key", &certificate], "holds no private key").await?;
    refused(&["--bearer-tokens", "/nowhere"], "bearer-tokens: /nowhere cannot be read").await?;
    refused(&["--token-file", "/nowhere"], "token-file: /nowhere cannot be read").await?;
    ensure!(!world.path("events").exists(), "the data directory was made");

    // One that nobody has to prove anything to is for the machine, and for no page that a browser on it shows.
    let open = EventStore::alone(&world.path("manifests"), &world.path("open"), "127.0.0.1:0").await?;
    let append = format!("{}/v1/streams/counter-1/events", open.url());
    let body = json!({"expected": "any", "events": [{"type": "Added", "data": {"amount": 1}}]}).to_string();
    let json = ["--header", "content-type: application/json", "--data", &body, &append];
    for header in ["host: rebound.example", "origin: https://elsewhere.example"] {
        curl(&[&["--header", header], &json[..]].concat()).await?.refused(403, "for the machine itself");
    }
    curl(&json).await?.is(201);
    let read = curl(&[&append]).await?;
    ensure!(read.body.matches("Added").count() == 1, "{read:?}");
    Ok(())
}
