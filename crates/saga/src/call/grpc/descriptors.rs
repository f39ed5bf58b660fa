//! What is known of services.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headwater_resources::shared::{DataKind, DataRef};
use http::Uri;
use prost_reflect::{DescriptorPool, ServiceDescriptor};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::channel::Channel;
use super::reflection;
use crate::call::{Answer, Surroundings};

/// How long a server's own description is believed. Asking takes a round trip or two; a roll-out takes longer than this.
const BELIEVED: Duration = Duration::from_mins(1);

/// Services that are remembered. Definitions name few.
const MAX_SERVICES: usize = 256;

/// Where a description is from.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Source {
    Server(Uri, String),
    Data(DataRef, String),
}

/// What a description stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Read(Instant),
    Digest([u8; 32]),
}

/// Services that were asked for.
#[derive(Default)]
pub(in crate::call) struct Descriptors(Mutex<HashMap<Source, (Mark, ServiceDescriptor)>>);

impl Descriptors {
    /// What `service` is, and whether that is known to be so now. With `fresh`, it is.
    ///
    /// # Errors
    /// What to answer instead.
    pub(super) async fn service(
        &self,
        channel: &Channel,
        surroundings: &dyn Surroundings,
        data: Option<&DataRef>,
        service: &str,
        fresh: bool,
    ) -> Result<(ServiceDescriptor, bool), Answer> {
        if let Some(data) = data {
            return Ok((self.in_data(surroundings, data, service)?, true));
        }
        let at = channel.address.as_ref().map_or_else(|| channel.origin.to_string(), ToString::to_string);
        let source = Source::Server(channel.origin.clone(), format!("{at} {service}"));
        if !fresh
            && let Some((Mark::Read(read), known)) = self.known(&source)
            && read.elapsed() < BELIEVED
        {
            return Ok((known, false));
        }
        let known = reflection::describe(channel, service).await?;
        self.remember(source, Mark::Read(Instant::now()), &known);
        Ok((known, true))
    }

    fn in_data(
        &self,
        surroundings: &dyn Surroundings,
        data: &DataRef,
        service: &str,
    ) -> Result<ServiceDescriptor, Answer> {
        let kind = match data.kind {
            DataKind::Secret => "Secret",
            DataKind::ConfigMap => "ConfigMap",
        };
        let of = |fault: &str| {
            format!("descriptorRef names key \"{}\" of {kind} \"{}\", {fault}", data.key, data.name)
        };
        let bytes = surroundings
            .data(data)
            .map_err(|error| Answer::unanswered(of(&format!("which cannot be read: {error}"))))?;
        let source = Source::Data(data.clone(), service.to_owned());
        let mark = Mark::Digest(Sha256::digest(&bytes).into());
        if let Some((known_mark, known)) = self.known(&source)
            && known_mark == mark
        {
            return Ok(known);
        }
        let pool = DescriptorPool::decode(bytes.as_slice())
            .map_err(|error| Answer::unanswered(of(&format!("which is no descriptor set: {error}"))))?;
        let Some(known) = pool.get_service_by_name(service) else {
            let services: Vec<_> = pool.services().map(|it| it.full_name().to_owned()).collect();
            return Err(Answer::failure(of(&format!(
                "which describes no service \"{service}\"; it describes: {}",
                reflection::listed(&services)
            ))));
        };
        self.remember(source, mark, &known);
        Ok(known)
    }

    fn known(&self, source: &Source) -> Option<(Mark, ServiceDescriptor)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    fn remember(&self, source: Source, mark: Mark, service: &ServiceDescriptor) {
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if services.len() >= MAX_SERVICES {
            services.clear();
        }
        services.insert(source, (mark, service.clone()));
    }
}
