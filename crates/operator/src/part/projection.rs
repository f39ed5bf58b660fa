//! A Projection as query workers.

use headwater_resources::Projection;
use headwater_resources::shared::{Verb, WorkState};

use super::calls::{access, event_store, plain_calls, serving, trusting};
use super::documents::Documents;
use super::{Kind, Made, Owner, Refused, scale};
use crate::found::Found;
use crate::settings::Settings;

pub(super) fn made(
    resource: &Projection,
    owner: &Owner,
    found: &Found,
    settings: &Settings,
) -> Result<Made, Refused> {
    let spec = &resource.spec;
    let mut read = spec.clone();
    read.access = access(&spec.access, [(settings.operator.clone(), vec![Verb::Query, Verb::Admin])]);
    let mut documents = Documents::default();
    documents.add(Kind::Projection, &resource.metadata, &read, &[], "");
    let stream = documents.follow(&spec.stream_ref.name, found)?;
    let (manifests, mut files) = documents.finish(found)?;
    let server = spec.server.clone().unwrap_or_default();
    let mut flags = vec![
        format!("--projection={}", owner.name),
        format!("--listen=0.0.0.0:{}", Kind::Projection.port()),
        format!("--event-store={}", event_store(stream, &owner.namespace)),
        "--worker=$(POD_NAME)".to_owned(),
    ];
    flags.extend(serving(owner, &server, found, &mut files)?);
    flags.extend(plain_calls(&server, stream));
    flags.extend(trusting(stream.spec.server.as_ref(), found, &mut files));
    let scale = scale(spec.state == WorkState::Stopped, spec.replicas, spec.autoscaling.as_ref(), stream);
    Ok(Made { manifests, flags, files, scale })
}
