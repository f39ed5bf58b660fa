//! An EventStream as event stores.

use headwater_resources::EventStream;
use headwater_resources::shared::{DeletionPolicy, RunState, Verb};

use super::{
    Autoscaler, Callers, Documents, Kind, Owner, Part, Refused, Scale, access, bearer_tokens, scheme,
    serving, trusting,
};
use crate::found::Found;
use crate::settings::{ServiceAccount, Settings};

pub(super) fn part(
    resource: &EventStream,
    owner: Owner,
    found: &Found,
    settings: &Settings,
) -> Result<Part, Refused> {
    let spec = &resource.spec;
    if spec.database.is_none() {
        return Err(Refused::Invalid(
            "spec.database: in a cluster, events are kept in a database: name one, type and urlSecretRef"
                .to_owned(),
        ));
    }
    let account = |name: String| ServiceAccount { namespace: owner.namespace.clone(), name };
    let mut ours = vec![(settings.operator.clone(), vec![Verb::Read])];
    // Without rules, the service accounts of the namespace may do what these need.
    if !spec.access.is_empty() {
        // What event stores ask of each other is asked in their own name.
        ours.push((account(Kind::EventStream.child(&owner.name)), vec![Verb::Append, Verb::Read]));
        ours.extend(found.followers.iter().map(|(kind, name)| {
            let verbs = if *kind == Kind::Saga { vec![Verb::Append, Verb::Read] } else { vec![Verb::Read] };
            (account(kind.child(name)), verbs)
        }));
    }
    let mut read = spec.clone();
    read.access = access(&spec.access, ours);
    let mut documents = Documents::default();
    documents.add(Kind::EventStream, &resource.metadata, &read, &["state"], "");
    let (manifests, mut secrets) = documents.finish(found)?;
    let server = spec.server.clone().unwrap_or_default();
    let mut flags =
        vec![format!("--stream={}", owner.name), format!("--listen=0.0.0.0:{}", Kind::EventStream.port())];
    flags.extend(serving(&owner, &server, found, &mut secrets)?);
    let scheme = scheme(server.tls.is_some());
    flags.push(format!("--advertise={scheme}://$(POD_IP):{}", Kind::EventStream.port()));
    if server.tls.is_some() {
        flags.push(format!("--peer-name={}", Kind::EventStream.host(&owner.name, &owner.namespace)));
    }
    flags.extend(trusting(Some(&server), found, &mut secrets));
    let scale = Scale {
        replicas: if spec.state == RunState::Stopped { 0 } else { spec.replicas },
        autoscaling: spec
            .autoscaling
            .as_ref()
            .filter(|_| spec.state == RunState::Running)
            .map(Autoscaler::by_use),
    };
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
