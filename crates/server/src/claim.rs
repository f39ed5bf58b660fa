//! Whom the log in a database is to belong to.

use headwater_core::{Error, LogId, Result};
use headwater_resources::ADOPT;
use headwater_sql::{Claim, Owner};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What the resource `name` of `kind` says to the log that is to be its own; `all` are those of its kind in the manifests. A flag that says
/// which log it adopts comes before its annotation.
///
/// # Errors
/// `Invalid` for an annotation that names no log.
pub(crate) fn claim<'m>(
    kind: &str,
    mut all: impl Iterator<Item = &'m ObjectMeta>,
    name: &str,
    namespace: &str,
    adopt: Option<LogId>,
) -> Result<Claim> {
    let metadata = all.find(|metadata| metadata.name.as_deref() == Some(name));
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    let adopt = match (adopt, annotations.and_then(|annotations| annotations.get(ADOPT))) {
        (Some(adopt), _) => Some(adopt),
        (None, Some(id)) => Some(id.trim().parse().map_err(|_| {
            Error::invalid(
                format!("metadata.annotations[{ADOPT}]"),
                format!("{kind} \"{name}\" is to adopt {id:?}, which is no log's id: give the UUID that the refusal names"),
            )
        })?),
        (None, None) => None,
    };
    let owner = Owner {
        namespace: namespace.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: metadata.and_then(|metadata| metadata.uid.clone()),
    };
    Ok(Claim { owner, adopt })
}

#[cfg(test)]
mod tests {
    use headwater_resources::manifest::read_texts;

    use super::*;

    #[test]
    fn a_claim_is_what_the_metadata_says() {
        let id = "6f1d2c3b-4a59-4e68-8d77-0a1b2c3d4e5f";
        let stream = |name: &str, more: &str| {
            format!(
                "apiVersion: headwater.dev/v1alpha1\nkind: EventStream\nmetadata: {{name: {name}{more}}}\nspec: {{}}\n"
            )
        };
        let texts = [
            stream("plain", ""),
            stream("known", ", uid: u-1"),
            stream("adopting", &format!(", annotations: {{{ADOPT}: {id}}}")),
            stream("wrong", &format!(", annotations: {{{ADOPT}: orders}}")),
        ];
        let manifests = read_texts([("test.yaml", texts.join("---\n").as_str())]);
        assert!(manifests.is_valid(), "{:?}", manifests.faults);
        let of = |name: &str, adopt: Option<LogId>| {
            claim("EventStream", manifests.event_streams.iter().map(|it| &it.metadata), name, "shop", adopt)
        };
        let plain = of("plain", None).unwrap();
        assert_eq!(
            (plain.owner.to_string().as_str(), plain.adopt),
            ("EventStream \"plain\" of namespace \"shop\"", None)
        );
        assert_eq!(of("known", None).unwrap().owner.uid.as_deref(), Some("u-1"));
        let log: LogId = id.parse().unwrap();
        assert_eq!(of("adopting", None).unwrap().adopt, Some(log));
        let other = LogId::generate();
        assert_eq!(of("adopting", Some(other)).unwrap().adopt, Some(other));
        let error = of("wrong", None).unwrap_err().to_string();
        assert!(
            error.starts_with("metadata.annotations[headwater.dev/adopt]: ") && error.contains("\"orders\""),
            "{error}"
        );
    }
}
