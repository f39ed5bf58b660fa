//! An EventStream as event stores.

use headwater_resources::EventStream;
use headwater_resources::shared::{RunState, Verb};

use super::calls::{access, scheme, serving, trusting};
use super::documents::Documents;
use super::{Autoscaler, Kind, Made, Owner, Refused, Scale};
use crate::found::Found;
use crate::settings::{ServiceAccount, Settings};

pub(super) fn made(
    resource: &EventStream,
    owner: &Owner,
    found: &Found,
    settings: &Settings,
) -> Result<Made, Refused> {
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
    let (manifests, mut files) = documents.finish(found)?;
    let server = spec.server.clone().unwrap_or_default();
    let mut flags =
        vec![format!("--stream={}", owner.name), format!("--listen=0.0.0.0:{}", Kind::EventStream.port())];
    flags.extend(serving(owner, &server, found, &mut files)?);
    let scheme = scheme(server.tls.is_some());
    flags.push(format!("--advertise={scheme}://$(POD_IP):{}", Kind::EventStream.port()));
    if server.tls.is_some() {
        flags.push(format!("--peer-name={}", Kind::EventStream.host(&owner.name, &owner.namespace)));
    }
    flags.extend(trusting(Some(&server), found, &mut files));
    let scale = Scale {
        replicas: if spec.state == RunState::Stopped { 0 } else { spec.replicas },
        autoscaling: spec
            .autoscaling
            .as_ref()
            .filter(|_| spec.state == RunState::Running)
            .map(Autoscaler::by_use),
    };
    Ok(Made { manifests, flags, files, scale })
}
