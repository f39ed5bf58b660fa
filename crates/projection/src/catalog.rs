use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use headwater_core::{Error, Result};
use headwater_view::{Revision, RevisionRecord};

use crate::plan::names;
use crate::service::ProjectionService;
use crate::travel::{TravelOptions, Travels};

/// The projections that one query API answers for. A cheap handle.
#[derive(Clone, Default)]
pub struct Catalog(Arc<Inner>);

#[derive(Default)]
struct Inner {
    projections: RwLock<BTreeMap<String, Entry>>,
    travels: Travels,
}

/// A projection, and the active revision's record as it was last seen: what never changes about it need not be read for each query.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) service: ProjectionService,
    active: Arc<RwLock<Option<Seen>>>,
}

/// A record, and the store's [era](ProjectionService::era) in which it was seen.
type Seen = (u64, Arc<RevisionRecord>);

impl Catalog {
    /// An empty catalog, whose time travels are as `options` say.
    pub fn new(options: TravelOptions) -> Self {
        Self(Arc::new(Inner { projections: RwLock::default(), travels: Travels::new(options) }))
    }

    /// Answers for `service` from now on, under its name.
    pub fn add(&self, service: ProjectionService) {
        let name = service.name().to_owned();
        let entry = Entry { service, active: Arc::default() };
        self.0.projections.write().unwrap_or_else(PoisonError::into_inner).insert(name, entry);
    }

    /// Answers for the projection `name` no more, and gives it back.
    pub fn remove(&self, name: &str) -> Option<ProjectionService> {
        let entry = self.0.projections.write().unwrap_or_else(PoisonError::into_inner).remove(name)?;
        self.0.travels.forget(name);
        Some(entry.service)
    }

    /// All projections, by name.
    pub fn projections(&self) -> Vec<ProjectionService> {
        self.entries().into_iter().map(|entry| entry.service).collect()
    }

    /// The projection `name`.
    ///
    /// # Errors
    /// `NotFound` that says which there are.
    pub fn projection(&self, name: &str) -> Result<ProjectionService> {
        self.entry(name).map(|entry| entry.service)
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.projections.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn entry(&self, name: &str) -> Result<Entry> {
        let projections = self.0.projections.read().unwrap_or_else(PoisonError::into_inner);
        projections.get(name).cloned().ok_or_else(|| match projections.len() {
            0 => Error::not_found(format!("there is no projection \"{name}\", and no other either")),
            _ => Error::not_found(format!(
                "there is no projection \"{name}\"; there is {}",
                names(projections.keys().map(String::as_str))
            )),
        })
    }

    pub(crate) fn travels(&self) -> &Travels {
        &self.0.travels
    }
}

impl Entry {
    /// The active revision, unless it is `stale`: then it is looked up.
    pub(crate) async fn active(&self, stale: Option<Revision>) -> Result<Option<Arc<RevisionRecord>>> {
        let era = self.service.era();
        let known = self.active.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, record)) = known.filter(|(at, record)| *at == era && stale != Some(record.revision)) {
            return Ok(Some(record));
        }
        let rollout = self.service.store().rollout().await?;
        let record = rollout.active_record().cloned().map(Arc::new);
        *self.active.write().unwrap_or_else(PoisonError::into_inner) =
            record.clone().map(|record| (era, record));
        Ok(record)
    }
}
