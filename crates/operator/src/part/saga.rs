//! A Saga as its coordinators.

use headwater_resources::Saga;
use headwater_resources::shared::{Verb, WorkState};

use super::calls::{access, event_store, plain_calls, serving, trusting};
use super::documents::Documents;
use super::{Kind, Made, Owner, Refused, scale};
use crate::found::Found;
use crate::settings::Settings;

pub(super) fn made(
    resource: &Saga,
    owner: &Owner,
    found: &Found,
    settings: &Settings,
) -> Result<Made, Refused> {
    let spec = &resource.spec;
    let mut read = spec.clone();
    read.access = access(&spec.access, [(settings.operator.clone(), vec![Verb::Query])]);
    let mut documents = Documents::default();
    documents.add(Kind::Saga, &resource.metadata, &read, &[], "");
    let mut streams = Vec::new();
    for name in spec.streams() {
        streams.push((name, documents.follow(name, found)?));
    }
    let (manifests, mut files) = documents.finish(found)?;
    let server = spec.server.clone().unwrap_or_default();
    let mut flags = vec![format!("--saga={}", owner.name), format!("--listen=0.0.0.0:{}", Kind::Saga.port())];
    for (name, stream) in &streams {
        flags.push(format!("--event-store={name}={}", event_store(stream, &owner.namespace)));
    }
    flags.push("--worker=$(POD_NAME)".to_owned());
    flags.extend(serving(owner, &server, found, &mut files)?);
    flags.extend(streams.iter().find_map(|(_, stream)| plain_calls(&server, stream)));
    let trusted: Vec<String> = streams
        .iter()
        .filter_map(|(_, stream)| trusting(stream.spec.server.as_ref(), found, &mut files))
        .collect();
    if trusted.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(Refused::Invalid(
            "spec.steps: the event streams that are appended to have certificates of different Secrets, and a saga trusts the authorities of one: \
             let their server.tls.secretRef name the same Secret, or certificates of an authority that the system trusts"
                .to_owned(),
        ));
    }
    flags.extend(trusted.into_iter().next());
    let stream = streams.iter().find(|(name, _)| *name == spec.stream_ref.name).map(|(_, stream)| *stream);
    let is_stopped = spec.state == WorkState::Stopped;
    let scale = scale(is_stopped, spec.replicas, spec.autoscaling.as_ref(), stream.unwrap_or(streams[0].1));
    Ok(Made { manifests, flags, files, scale })
}
