use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use headwater_core::{Error, Result};

use crate::service::SagaService;

/// The sagas that one API answers for. A cheap handle.
#[derive(Debug, Clone, Default)]
pub struct SagaCatalog(Arc<RwLock<BTreeMap<String, SagaService>>>);

impl SagaCatalog {
    /// Answers for `service` from now on, under its name; gives back who did before.
    pub fn add(&self, service: SagaService) -> Option<SagaService> {
        let name = service.name().to_owned();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, service)
    }

    /// Answers for the saga `name` no more, and gives it back.
    pub fn remove(&self, name: &str) -> Option<SagaService> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// All sagas, by name.
    pub fn sagas(&self) -> Vec<SagaService> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The saga `name`.
    ///
    /// # Errors
    /// `NotFound` that says which there are.
    pub fn saga(&self, name: &str) -> Result<SagaService> {
        let sagas = self.0.read().unwrap_or_else(PoisonError::into_inner);
        sagas.get(name).cloned().ok_or_else(|| {
            let names: Vec<String> = sagas.keys().map(|name| format!("\"{name}\"")).collect();
            if names.is_empty() {
                Error::not_found(format!("there is no saga \"{name}\", and no other either"))
            } else {
                Error::not_found(format!("there is no saga \"{name}\"; there is {}", names.join(", ")))
            }
        })
    }
}
