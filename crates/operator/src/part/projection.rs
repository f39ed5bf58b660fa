//! A Projection as query workers.

use headwater_resources::Projection;
use headwater_resources::shared::{DeletionPolicy, Verb, WorkState};

use super::{
    Callers, Documents, Kind, Owner, Part, Refused, access, bearer_tokens, event_store, plain_calls, scale,
    serving, trusting,
};
use crate::found::Found;
use crate::settings::Settings;

pub(super) fn part(
    resource: &Projection,
    owner: Owner,
    found: &Found,
    settings: &Settings,
) -> Result<Part, Refused> {
    let spec = &resource.spec;
    let mut read = spec.clone();
    read.access = access(&spec.access, [(settings.operator.clone(), vec![Verb::Query, Verb::Admin])]);
    let mut documents = Documents::default();
    documents.add(Kind::Projection, &resource.metadata, &read, &[], "");
    let stream = documents.follow(&spec.stream_ref.name, found)?;
    let (manifests, mut secrets) = documents.finish(found)?;
    let server = spec.server.clone().unwrap_or_default();
    let mut flags = vec![
        format!("--projection={}", owner.name),
        format!("--listen=0.0.0.0:{}", Kind::Projection.port()),
        format!("--event-store={}", event_store(stream, &owner.namespace)),
        "--worker=$(POD_NAME)".to_owned(),
    ];
    flags.extend(serving(&owner, &server, found, &mut secrets)?);
    flags.extend(plain_calls(&server, stream));
    flags.extend(trusting(stream.spec.server.as_ref(), found, &mut secrets));
    let scale = scale(spec.state == WorkState::Stopped, spec.replicas, spec.autoscaling.as_ref(), stream);
    let workload = spec.workload.clone().unwrap_or_default();
    let bearer_tokens = bearer_tokens(&server);
    let deletes_data = spec.deletion_policy == DeletionPolicy::Delete;
    let callers = Callers::of(spec.network_policy.as_ref(), &spec.access);
    let log_id = found.log_id.clone();
    Ok(Part {
        owner,
        manifests,
        flags,
        secrets,
        bearer_tokens,
        server,
        workload,
        scale,
        deletes_data,
        log_id,
        callers,
    })
}
