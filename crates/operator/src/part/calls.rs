//! Who calls whom, and by what each proves who it is: flags, and the Secrets behind them.

use headwater_resources::EventStream;
use headwater_resources::shared::{AccessRule, DataKind, DataRef, Server, Subject, SubjectType, Verb};
use serde_json::json;

use super::{Files, Kind, Owner, Refused, at};
use crate::found::Found;
use crate::references::References;
use crate::settings::{AUDIENCE, ServiceAccount, audience_in};

/// Who may call, with what our own parts need.
///
/// An `access` that is empty means the service accounts of the namespace, and has to be written out where something is added to it.
pub(super) fn access(
    rules: &[AccessRule],
    ours: impl IntoIterator<Item = (ServiceAccount, Vec<Verb>)>,
) -> Vec<AccessRule> {
    let account = |namespace: Option<String>, name: &str, verbs: Vec<Verb>| AccessRule {
        subject: Subject { r#type: SubjectType::ServiceAccount, namespace, name: Some(name.to_owned()) },
        verbs,
    };
    let mut all = rules.to_vec();
    if all.is_empty() {
        all.push(account(None, "*", vec![Verb::Append, Verb::Read, Verb::Query]));
    }
    all.extend(ours.into_iter().map(|(who, verbs)| account(Some(who.namespace), &who.name, verbs)));
    all
}

/// What every program is told about who is served; and what it gets for that.
pub(super) fn serving(
    owner: &Owner,
    server: &Server,
    found: &Found,
    files: &mut Files,
) -> Result<Vec<String>, Refused> {
    let references = References::of(&json!({ "server": server }));
    if let Some(missing) = found.missing(&references) {
        return Err(Refused::Missing(missing));
    }
    let mut flags = vec![
        // The cluster's own is the first: of it alone, subjects are service accounts.
        format!("--jwt-issuer={}", found.issuer.issuer),
        format!("--jwt-jwks={}/jwks.json", at::ISSUER),
        format!("--jwt-audience={AUDIENCE},{}", audience_in(&owner.namespace)),
        format!("--token-file={}/token", at::TOKEN),
    ];
    if let Some(auth) = &server.auth {
        for jwt in &auth.jwt {
            flags.push(format!("--jwt-issuer={}", jwt.issuer));
            flags.push(format!("--jwt-jwks={}", followed(files, &jwt.jwks_ref)));
            flags.push(format!("--jwt-audience={}", jwt.audiences.join(",")));
        }
        files.bearer_tokens = auth.bearer_tokens_secret_ref.as_ref().map(|it| it.name.clone());
    }
    match &server.tls {
        None => flags.push("--plain-text".to_owned()),
        Some(tls) => {
            let folder = mount(files, &tls.secret_ref.name, &["tls.crt", "tls.key"]);
            flags.push(format!("--tls-cert={folder}/tls.crt"));
            flags.push(format!("--tls-key={folder}/tls.key"));
            flags.extend(
                tls.client_ca_ref.as_ref().map(|ca| format!("--tls-client-ca={}", followed(files, ca))),
            );
        }
    }
    Ok(flags)
}

/// Where the event store of `stream` answers.
pub(super) fn event_store(stream: &EventStream, namespace: &str) -> String {
    let name = stream.metadata.name.as_deref().unwrap_or_default();
    let has_tls = stream.spec.server.as_ref().is_some_and(|server| server.tls.is_some());
    format!("{}://{}", scheme(has_tls), Kind::EventStream.address(name, namespace))
}

/// By which a server with TLS, or without, is called.
pub(super) const fn scheme(has_tls: bool) -> &'static str {
    if has_tls { "https" } else { "http" }
}

/// The flag by which what is served by TLS itself sends its token to event stores in plain text; what is not has been told already.
pub(super) fn plain_calls(server: &Server, stream: &EventStream) -> Option<String> {
    let has_tls = stream.spec.server.as_ref().is_some_and(|server| server.tls.is_some());
    (server.tls.is_some() && !has_tls).then(|| "--plain-text-calls".to_owned())
}

/// The flag that names the authorities of a server's certificate, where its Secret has them.
pub(super) fn trusting(server: Option<&Server>, found: &Found, files: &mut Files) -> Option<String> {
    let name = &server?.tls.as_ref()?.secret_ref.name;
    found.secrets.get(name).filter(|secret| secret.authorities.is_some())?;
    Some(format!("--ca={}/ca.crt", mount(files, name, &["ca.crt"])))
}

/// Has `keys` of the Secret be among what a program gets, to be read again when they change; in which folder they are.
fn mount(files: &mut Files, name: &str, keys: &[&str]) -> String {
    files.followed.entry(name.to_owned()).or_default().extend(keys.iter().map(|key| (*key).to_owned()));
    format!("{}/{name}", at::SECRETS)
}

/// The same for what a Secret or a ConfigMap has; in which file it is.
fn followed(files: &mut Files, data: &DataRef) -> String {
    let DataRef { kind, name, key } = data;
    match kind {
        DataKind::Secret => format!("{}/{key}", mount(files, name, &[key])),
        DataKind::ConfigMap => {
            files.config_maps.entry(name.clone()).or_default().insert(key.clone());
            format!("{}/{name}/{key}", at::CONFIG_MAPS)
        }
    }
}
