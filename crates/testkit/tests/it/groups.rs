//! Query workers that share out a projection's partitions, over one database and over one Redis.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use headwater_testkit::counters::{self, PROJECTION};
use headwater_testkit::dev::write;
use headwater_testkit::event_store::{EventStore, QueryWorker};
use headwater_testkit::http::{Event, Http};
use headwater_testkit::postgres::Postgres;
use headwater_testkit::process::PATIENCE;
use headwater_testkit::redis::Redis;
use rustix::process::Signal;
use serde_json::Value;

use crate::load::Load;

const PARTITIONS: usize = 8;

/// An event stream of eight partitions, and where its projection is kept.
struct Ground {
    directory: tempfile::TempDir,
    store: EventStore,
    sink: String,
}

impl Ground {
    async fn over(sink: String) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        counters::write_manifests(directory.path())?;
        let manifest = std::fs::read_to_string(directory.path().join("eventstream.yaml"))?;
        write(directory.path(), "eventstream.yaml", &manifest.replace("partitions: 3", "partitions: 8"))?;
        let data = directory.path().join("store");
        let store = EventStore::alone(directory.path(), &data, "127.0.0.1:0").await?;
        Ok(Self { directory, store, sink })
    }

    /// A worker that answers.
    async fn worker(&self) -> Result<QueryWorker> {
        let mut worker = QueryWorker::over(self.directory.path(), self.store.url(), &self.sink).await?;
        worker.answers().await?;
        Ok(worker)
    }

    /// Workers, among which the partitions are shared out.
    async fn workers<const N: usize>(&self) -> Result<[QueryWorker; N]> {
        let mut workers = Vec::new();
        for _ in 0..N {
            workers.push(self.worker().await?);
        }
        shared_out(&workers.iter().collect::<Vec<_>>()).await?;
        workers.try_into().ok().context("so many workers")
    }

    /// Checks that each of `workers` answers what the events add up to.
    async fn check(&self, workers: &[&QueryWorker], events: &[Event], token: &str) -> Result<()> {
        for worker in workers {
            let rows = Http::new(self.store.url(), worker.url()).rows(PROJECTION, "totals", token).await?;
            counters::check_rows(events, &rows, "total")?;
        }
        Ok(())
    }
}

async fn held(worker: &QueryWorker) -> Result<usize> {
    Ok(worker.metric("headwater_projection_partitions_held{projection=\"totals\"}").await? as usize)
}

/// Events that it folded whose batch was `applied`, or `refused`.
async fn folded(worker: &QueryWorker, result: &str) -> Result<usize> {
    let name =
        format!("headwater_projection_folded_events_total{{projection=\"totals\",result=\"{result}\"}}");
    Ok(worker.metric(&name).await? as usize)
}

/// Waits until the workers hold about as many partitions each, and all together; gives how long that took.
async fn shared_out(workers: &[&QueryWorker]) -> Result<Duration> {
    let began = Instant::now();
    loop {
        let mut shares = Vec::new();
        for worker in workers {
            shares.push(held(worker).await?);
        }
        let fair = PARTITIONS / workers.len()..=PARTITIONS.div_ceil(workers.len());
        if shares.iter().sum::<usize>() == PARTITIONS && shares.iter().all(|share| fair.contains(share)) {
            return Ok(began.elapsed());
        }
        ensure!(began.elapsed() < PATIENCE, "the workers hold {shares:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the status at `worker` says of who holds what: names, and numbers of partitions.
async fn seen_at(worker: &QueryWorker) -> Result<Vec<(String, usize)>> {
    let http = Http::new("", worker.url());
    let status: Value = http.json(&format!("{}/v1/admin/projections/totals", worker.url())).await?;
    let workers = status["workers"].as_array().with_context(|| format!("no workers in {status}"))?;
    let share = |worker: &Value| {
        let name = worker["name"].as_str().unwrap_or_default().to_owned();
        (name, worker["partitions"].as_array().map_or(0, Vec::len))
    };
    Ok(workers.iter().map(share).collect())
}

/// Four workers fold each event once in all, where each by itself would fold all of them.
async fn four_fold_each_event_once(sink: String) -> Result<()> {
    let ground = Ground::over(sink).await?;
    let workers = ground.workers::<4>().await?;
    let workers: Vec<&QueryWorker> = workers.iter().collect();
    let load = Load::on(&ground.store);
    load.stores(1_500).await?;
    let (events, token) = load.stop(&ground.store).await?;
    // Each answers for partitions that the others fold.
    ground.check(&workers, &events, &token).await?;
    let (mut applied, mut refused) = (0, 0);
    for worker in &workers {
        let here = folded(worker, "applied").await?;
        ensure!(here > 0, "one of the workers folded nothing");
        applied += here;
        refused += folded(worker, "refused").await?;
    }
    println!("{} events: {applied} folded for good, {refused} beside", events.len());
    assert_eq!(applied, events.len());
    ensure!(refused * 10 <= events.len(), "{refused} of {} events were folded in vain", events.len());
    let mut names: Vec<String> = workers.iter().map(|worker| worker.url().to_owned()).collect();
    names.sort();
    let expected: Vec<_> = names.into_iter().map(|name| (name, 2)).collect();
    for worker in workers {
        assert_eq!(seen_at(worker).await?, expected);
    }
    Ok(())
}

/// A group that is shrunk from three to one under load processes nothing twice and loses nothing.
async fn a_group_shrinks_from_three_to_one(sink: String) -> Result<()> {
    let ground = Ground::over(sink).await?;
    let [one, two, three] = ground.workers::<3>().await?;
    let load = Load::on(&ground.store);
    load.stores(300).await?;
    assert!(three.into_process().terminate().await?.success());
    // It has given up what it had, and did not leave that to time.
    let left: Vec<String> = seen_after_a_look(&one).await?;
    assert_eq!(left.len(), 2, "{left:?}");
    println!("of three, two have all after {:?}", shared_out(&[&one, &two]).await?);
    load.stores(300).await?;
    assert!(two.into_process().terminate().await?.success());
    println!("of two, one has all after {:?}", shared_out(&[&one]).await?);
    load.stores(300).await?;
    let (events, token) = load.stop(&ground.store).await?;
    ground.check(&[&one], &events, &token).await?;
    assert_eq!(folded(&one, "refused").await?, 0, "nothing was folded by two");
    Ok(())
}

/// The members that `worker` sees once it has looked anew: what it saw before may be half a second old.
async fn seen_after_a_look(worker: &QueryWorker) -> Result<Vec<String>> {
    let began = Instant::now();
    loop {
        let seen = seen_at(worker).await?;
        // A killed one is a member for the four seconds of its term.
        if seen.len() == 2 || began.elapsed() > Duration::from_secs(3) {
            return Ok(seen.into_iter().map(|(name, _)| name).collect());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a killed worker had, another has when its lease has ended; and a new one gets its share.
async fn one_is_killed_and_another_comes(sink: String) -> Result<()> {
    let ground = Ground::over(sink).await?;
    let [one, two] = ground.workers::<2>().await?;
    let load = Load::on(&ground.store);
    load.stores(300).await?;
    two.into_process().kill().await?;
    println!("the other has all after {:?}", shared_out(&[&one]).await?);
    load.stores(300).await?;
    let three = ground.worker().await?;
    println!("a new one has its share after {:?}", shared_out(&[&one, &three]).await?);
    load.stores(300).await?;
    let (events, token) = load.stop(&ground.store).await?;
    ground.check(&[&one, &three], &events, &token).await
}

/// A worker that was stopped for longer than its lease writes nothing when it wakes, and gets a share again.
async fn one_is_stopped_past_its_lease_and_wakes(sink: String) -> Result<()> {
    let ground = Ground::over(sink).await?;
    let [one, two] = ground.workers::<2>().await?;
    let load = Load::on(&ground.store);
    load.stores(300).await?;
    two.process().signal(Signal::STOP)?;
    println!("the other has all after {:?}", shared_out(&[&one]).await?);
    load.stores(300).await?;
    two.process().signal(Signal::CONT)?;
    println!("both have a share again after {:?}", shared_out(&[&one, &two]).await?);
    load.stores(300).await?;
    let (events, token) = load.stop(&ground.store).await?;
    ground.check(&[&one, &two], &events, &token).await?;
    let applied = folded(&one, "applied").await? + folded(&two, "applied").await?;
    let refused = folded(&one, "refused").await? + folded(&two, "refused").await?;
    println!("{} events: {applied} folded for good, {refused} beside", events.len());
    // An answer that was under way when it was stopped may have come, and not been read.
    assert_eq!(applied, events.len(), "each event takes effect once");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_four_fold_each_event_once() -> Result<()> {
    let server = Postgres::start()?;
    four_fold_each_event_once(server.url()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_four_fold_each_event_once() -> Result<()> {
    let server = Redis::start()?;
    four_fold_each_event_once(server.url()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_group_shrinks_from_three_to_one_under_load() -> Result<()> {
    let server = Postgres::start()?;
    a_group_shrinks_from_three_to_one(server.url()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_a_group_shrinks_from_three_to_one_under_load() -> Result<()> {
    let server = Redis::start()?;
    a_group_shrinks_from_three_to_one(server.url()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_what_a_killed_worker_had_others_have() -> Result<()> {
    let server = Postgres::start()?;
    one_is_killed_and_another_comes(server.url()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_what_a_killed_worker_had_others_have() -> Result<()> {
    let server = Redis::start()?;
    one_is_killed_and_another_comes(server.url()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_postgres_a_worker_that_was_stopped_past_its_lease_writes_nothing_late() -> Result<()> {
    let server = Postgres::start()?;
    one_is_stopped_past_its_lease_and_wakes(server.url()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_a_worker_that_was_stopped_past_its_lease_writes_nothing_late() -> Result<()> {
    let server = Redis::start()?;
    one_is_stopped_past_its_lease_and_wakes(server.url()).await
}

/// A Redis that is set back to an older state forgets who holds what, and what was folded since: both come again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_redis_that_is_set_back_nothing_is_lost_and_nothing_counts_twice() -> Result<()> {
    let server = Redis::start()?;
    let ground = Ground::over(server.url()).await?;
    let [one, two] = ground.workers::<2>().await?;
    let load = Load::on(&ground.store);
    load.stores(300).await?;
    let snapshot = server.snapshot()?;
    // In the snapshot one of them is alone; since then it shares with a third.
    let three = ground.worker().await?;
    two.into_process().kill().await?;
    shared_out(&[&one, &three]).await?;
    load.stores(300).await?;
    server.restore(&snapshot)?;
    load.stores(300).await?;
    let (events, token) = load.stop(&ground.store).await?;
    ground.check(&[&one, &three], &events, &token).await?;
    shared_out(&[&one, &three]).await.map(drop)
}
