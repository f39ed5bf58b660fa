//! One operator at a time: by a Lease that is renewed, and given back at the end.
//!
//! Times are this process's own: a lease counts as abandoned when it has not been seen to change for its length, whatever clocks say.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio_util::sync::CancellationToken;

/// How long a lease holds that is not renewed.
pub const TERM: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const RENEWAL: Duration = Duration::from_secs(2);
/// How often those who wait look at it: one that is given back is taken within a second.
const LOOK: Duration = Duration::from_millis(500);
/// Until when the leader must have renewed it, to go on.
const DEADLINE: Duration = Duration::from_secs(10);

/// A candidate for a lease.
pub struct Candidate {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// The lease as it was last seen to change, and when.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    /// `identity`, for the lease `name` in `namespace`.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Waits until the lease is this one's; false when `stop` comes first.
    pub async fn lead(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.try_take().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, lease = %self.name, "cannot ask for the lease"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Renews the lease until `stop`, and gives it back; or returns when it could not be renewed in time, or is another's.
    pub async fn renew(&mut self, stop: &CancellationToken) {
        let mut renewed = Instant::now();
        while renewed.elapsed() < DEADLINE {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RENEWAL) => {}
            }
            match tokio::time::timeout(DEADLINE.saturating_sub(renewed.elapsed()), self.try_take()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => break,
                Ok(Err(error)) => tracing::warn!(%error, lease = %self.name, "cannot renew the lease"),
                Err(_) => {}
            }
        }
        tracing::error!(lease = %self.name, "the lease was not renewed in time, or is another's");
    }

    /// Gives the lease back, so that nobody waits for its end.
    pub async fn give_back(&mut self) {
        if let Err(error) = self.try_give_back().await {
            tracing::warn!(%error, lease = %self.name, "the lease could not be given back, and ends by itself");
        }
    }

    async fn try_give_back(&self) -> kube::Result<()> {
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }

    async fn try_take(&mut self) -> kube::Result<bool> {
        let now = MicroTime(Timestamp::now());
        let mine = |before: Option<&LeaseSpec>| {
            let is_same = before.is_some_and(|it| it.holder_identity.as_deref() == Some(&self.identity));
            let transitions = before.and_then(|it| it.lease_transitions).unwrap_or_default();
            LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: Some(TERM.as_secs() as i32),
                acquire_time: before
                    .filter(|_| is_same)
                    .map_or(Some(now.clone()), |it| it.acquire_time.clone()),
                renew_time: Some(now.clone()),
                lease_transitions: Some(transitions + i32::from(!is_same)),
                ..LeaseSpec::default()
            }
        };
        let Some(mut lease) = self.leases.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(mine(None)) };
            return won(self.leases.create(&PostParams::default(), &lease).await);
        };
        let version = lease.resource_version().unwrap_or_default();
        let since = match &self.seen {
            Some((known, since)) if *known == version => *since,
            _ => {
                let now = Instant::now();
                self.seen = Some((version, now));
                now
            }
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        let is_free = holder.is_empty() || since.elapsed() > TERM;
        if holder != self.identity && !is_free {
            return Ok(false);
        }
        lease.spec = Some(mine(Some(&spec)));
        // With the version that was read: of two who try, one succeeds.
        won(self.leases.replace(&self.name, &PostParams::default(), &lease).await)
    }
}

fn won(result: kube::Result<Lease>) -> kube::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
