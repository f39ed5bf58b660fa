//! The objects that resources become.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use headwater_operator::children::{Child, Children, children, running, selector};
use headwater_operator::found::{Count, Found};
use headwater_operator::part::{Autoscaler, Kind};
use headwater_resources::shared::Reason;
use serde_json::Value;

use crate::fixture::{Fixture, settings};

const EVERYTHING: &str = "crates/operator/tests/it/fixtures/everything.yaml";
const SECRETS: &str = "crates/operator/tests/it/fixtures/secrets-of-examples.yaml";

fn objects(fixture: &Fixture) -> Vec<Value> {
    let children =
        fixture.parts().iter().map(|part| children(part, &fixture.found, &settings())).collect::<Vec<_>>();
    children.into_iter().flat_map(|children| children.wanted).map(|child| child.object).collect()
}

#[test]
fn the_objects_of_the_examples_and_of_everything_are_these() {
    for (name, paths) in [
        ("orders", &["examples/orders", SECRETS][..]),
        ("banku", &["examples/banku", SECRETS]),
        ("everything", &[EVERYTHING]),
    ] {
        let texts: Vec<String> = objects(&Fixture::read(paths))
            .iter()
            .map(|object| serde_saphyr::to_string(object).unwrap())
            .collect();
        let text = texts.join("---\n");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/golden/{name}.yaml"));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&golden, &text).unwrap();
        }
        let there = std::fs::read_to_string(&golden).unwrap_or_default();
        assert!(
            text == there,
            "{} is stale; look at what has changed, and refresh it with: UPDATE=1 cargo test --release -p headwater-operator",
            golden.display()
        );
    }
}

/// What a kind does not know would be dropped silently: nothing that the pods are given may be.
#[test]
fn nothing_is_lost_on_the_way_to_an_object() {
    let objects = objects(&Fixture::read(&[EVERYTHING]));
    let all = serde_json::to_string(&objects).unwrap();
    for word in [
        "automountServiceAccountToken",
        "jwks.json",
        "appProtocol",
        "enableServiceLinks",
        "terminationGracePeriodSeconds",
        "runAsNonRoot",
        "fsGroup",
        "RuntimeDefault",
        "nodeSelector",
        "tolerations",
        "topologySpreadConstraints",
        "priorityClassName",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
        "maxSurge",
        "imagePullPolicy",
        "fieldPath",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "preStop",
        "terminationMessagePolicy",
        "allowPrivilegeEscalation",
        "readOnlyRootFilesystem",
        "drop",
        "volumeMounts",
        "projected",
        "expirationSeconds",
        "maxUnavailable",
        "scaleTargetRef",
        "averageUtilization",
        "servicebinding.io/headwater",
        "namespaceSelector",
        "except",
        "policyTypes",
        "blockOwnerDeletion",
        "HTTPS",
    ] {
        assert!(all.contains(word), "{word} is missing");
    }
}

fn renew(fixture: &mut Fixture, secret: &str) {
    for value in fixture.found.secrets.get_mut(secret).unwrap().keys.values_mut() {
        value.push('2');
    }
}

#[test]
fn a_change_that_no_program_reads_starts_no_pod_anew() {
    let configuration = |fixture: &Fixture, kind: Kind| {
        let part = fixture.part(kind).unwrap();
        let children = children(&part, &fixture.found, &settings());
        let deployment = children.wanted.iter().find(|it| it.resource.kind == "Deployment").unwrap();
        deployment.object["spec"]["template"]["metadata"]["annotations"]["headwater.dev/configuration"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(EVERYTHING))
        .unwrap();
    let before = Fixture::parse(&text);
    let scaled =
        Fixture::parse(&text.replace("replicas: 3", "replicas: 5").replace("cpu: 500m", "cpu: 600m"));
    assert_eq!(configuration(&before, Kind::EventStream), configuration(&scaled, Kind::EventStream));
    // A certificate that is renewed is read again.
    let mut renewed = Fixture::parse(&text);
    renew(&mut renewed, "serving");
    assert_eq!(configuration(&before, Kind::EventStream), configuration(&renewed, Kind::EventStream));
    // What is read at the start alone is not.
    let mut rotated = Fixture::parse(&text);
    renew(&mut rotated, "shop-db");
    for kind in [Kind::EventStream, Kind::Projection, Kind::Saga] {
        assert_ne!(configuration(&before, kind), configuration(&rotated, kind), "{kind:?}");
    }
    // Nor is how new resources are, which every change of them changes.
    let older = Fixture::parse(&text.replace("generation: 2", "generation: 1"));
    for kind in [Kind::EventStream, Kind::Projection, Kind::Saga] {
        assert_eq!(configuration(&before, kind), configuration(&older, kind), "{kind:?}");
        assert_ne!(before.part(kind).unwrap().manifests.text, older.part(kind).unwrap().manifests.text);
    }
    let other = Fixture::parse(&text.replace("by: {amount: \"1\"}", "by: {amount: \"2\"}"));
    assert_ne!(configuration(&before, Kind::Projection), configuration(&other, Kind::Projection));
    assert_eq!(configuration(&before, Kind::Saga), configuration(&other, Kind::Saga));
}

#[test]
fn the_operators_labels_win_over_the_users() {
    let fixture = Fixture::read(&[EVERYTHING]);
    for object in objects(&fixture).iter().filter(|object| object["kind"] == "Deployment") {
        let spec = &object["spec"];
        let labels = spec["template"]["metadata"]["labels"].as_object().unwrap();
        for (key, value) in spec["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels.get(key), Some(value));
        }
    }
    let owners: BTreeSet<_> = fixture.resources.iter().map(|(owner, _)| selector(owner)).collect();
    assert_eq!(owners.len(), fixture.resources.len(), "pods of one are not another's");
}

#[test]
fn what_is_no_longer_wanted_is_named() {
    let fixture = Fixture::read(&["examples/orders", SECRETS]);
    let part = fixture.part(Kind::EventStream).unwrap();
    let unwanted = children(&part, &fixture.found, &settings()).unwanted;
    let kinds: Vec<&str> = unwanted.iter().map(|(kind, _)| kind.kind.as_str()).collect();
    assert_eq!(kinds, ["PodDisruptionBudget", "NetworkPolicy", "HorizontalPodAutoscaler", "ConfigMap"]);
    for kind in [Kind::Projection, Kind::Saga] {
        let unwanted = children(&fixture.part(kind).unwrap(), &fixture.found, &settings()).unwanted;
        assert!(unwanted.iter().any(|(kind, _)| kind.kind == "ScaledObject"), "{kind:?}: {unwanted:?}");
    }
}

/// What deletes data is there when the resource, and all that belongs to it, is gone.
#[test]
fn what_deletes_data_needs_nothing_that_goes_before_it() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(EVERYTHING))
        .unwrap();
    for kind in Kind::ALL {
        let fixture = Fixture::parse(&text);
        let mut part = fixture.part(kind).unwrap();
        let is_deletion = |child: &&Child| child.name.ends_with("-deletion");
        part.deletes_data = false;
        let kept = children(&part, &fixture.found, &settings());
        assert!(kept.wanted.iter().find(is_deletion).is_none());
        part.deletes_data = true;
        let all = children(&part, &fixture.found, &settings());
        let map = all.wanted.iter().find(is_deletion).unwrap();
        assert!(kept.unwanted.iter().any(|(of, name)| of.kind == "ConfigMap" && *name == map.name));
        assert!(map.object["metadata"]["ownerReferences"].is_null());
        assert_eq!(map.object["metadata"]["labels"]["headwater.dev/deletion-of"], part.owner.uid);
        assert_eq!(map.object["data"]["manifests.yaml"], part.manifests.text);
        let job: Value = serde_json::from_str(map.object["data"]["job.json"].as_str().unwrap()).unwrap();
        assert!(job["metadata"]["ownerReferences"].is_null());
        assert_eq!(job["spec"]["suspend"], true);
        let pod = &job["spec"]["template"];
        let labels = pod["metadata"]["labels"].as_object().unwrap();
        let is_of_deployment =
            selector(&part.owner).iter().all(|(key, value)| labels.get(key).is_some_and(|it| it == value));
        assert!(!is_of_deployment, "it would be taken for one that still works");
        let spec = &pod["spec"];
        assert!(spec["serviceAccountName"].is_null(), "the resource's own is gone");
        let container = &spec["containers"][0];
        let arguments = container["args"].as_array().unwrap();
        assert!(arguments.iter().any(|it| it == "--delete-data"), "{arguments:?}");
        assert!(container["livenessProbe"].is_null() && container["ports"].is_null());
        let volumes: BTreeSet<&str> =
            spec["volumes"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        let mounts: BTreeSet<&str> = container["volumeMounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert_eq!(volumes, BTreeSet::from(["manifests", "secrets"]));
        assert_eq!(mounts, volumes);
        assert_eq!(spec["volumes"][0]["configMap"]["name"], map.name);
    }
}

/// One scales the pods, not two; and where KEDA is to and cannot, what scaled them before goes on.
#[test]
fn what_is_scaled_by_lag_is_scaled_by_keda_alone_and_waits_for_it() {
    let mut fixture = Fixture::read(&[EVERYTHING]);
    let found_by = |fixture: &Fixture| {
        let part = fixture.parts().into_iter().find(|part| part.owner.name == "latest").unwrap();
        let Children { wanted, unwanted } = children(&part, &fixture.found, &settings());
        let scales = |kind: &str| ["ScaledObject", "HorizontalPodAutoscaler"].contains(&kind);
        let wanted: Vec<Value> =
            wanted.into_iter().filter(|it| scales(&it.resource.kind)).map(|it| it.object).collect();
        let unwanted: Vec<String> =
            unwanted.into_iter().map(|(kind, _)| kind.kind).filter(|kind| scales(kind)).collect();
        (part.misses(&fixture.found), wanted, unwanted)
    };
    let (missing, wanted, unwanted) = found_by(&fixture);
    assert_eq!(missing, None);
    assert_eq!(unwanted, ["HorizontalPodAutoscaler"]);
    let [scaled] = &wanted[..] else { panic!("{wanted:?}") };
    assert_eq!(scaled["spec"]["maxReplicaCount"], 4, "as many as there are partitions");

    fixture.found.has_keda = false;
    let (missing, wanted, unwanted) = found_by(&fixture);
    assert!(wanted.is_empty() && unwanted.is_empty(), "{wanted:?} {unwanted:?}");
    let missing = missing.unwrap();
    assert_eq!(missing.reason, Reason::AutoscalerNotInstalled);
    assert!(missing.message.contains("spec.autoscaling.targetLag needs KEDA"), "{}", missing.message);
}

/// Pods of one make read the same, however late they come; and what changes nothing for them starts none anew.
#[test]
fn what_pods_read_is_named_after_its_content_and_kept_while_it_says_the_same() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(EVERYTHING))
        .unwrap();
    let made =
        |fixture: &Fixture| children(&fixture.part(Kind::Projection).unwrap(), &fixture.found, &settings());
    let deployment = |children: &Children| {
        children.wanted.iter().find(|it| it.resource.kind == "Deployment").unwrap().object.clone()
    };
    let read_by = |children: &Children| {
        let volumes = &deployment(children)["spec"]["template"]["spec"]["volumes"];
        let volume = volumes.as_array().unwrap().iter().find(|it| it["name"] == "manifests").unwrap();
        volume["configMap"]["name"].as_str().unwrap().to_owned()
    };
    let before = made(&Fixture::parse(&text));
    let map = before.wanted.iter().find(|it| it.name == read_by(&before)).expect("it is made with them");
    assert_eq!(map.object["immutable"], true);
    let annotations: BTreeMap<String, String> =
        serde_json::from_value(deployment(&before)["metadata"]["annotations"].clone()).unwrap();
    let running = running(&annotations);
    assert!(running.is_some());

    // The resource is a newer one, and says the same.
    let mut newer = Fixture::parse(&text.replace("generation: 2", "generation: 3"));
    newer.found.running.clone_from(&running);
    let after = made(&newer);
    assert_eq!(deployment(&after)["spec"], deployment(&before)["spec"]);
    assert!(after.wanted.iter().all(|it| it.name != read_by(&after)), "it cannot be changed");

    // It is gone, or says something else.
    newer.found.running = None;
    assert_ne!(read_by(&made(&newer)), read_by(&before));
    let mut other = Fixture::parse(&text.replace("by: {amount: \"1\"}", "by: {amount: \"2\"}"));
    other.found.running = running;
    let other = made(&other);
    assert_ne!(read_by(&other), read_by(&before));
    assert!(other.wanted.iter().any(|it| it.name == read_by(&other)));
}

/// Whatever was found, a pass over what an earlier one has made asks for nothing else.
#[test]
fn a_second_pass_makes_nothing_else() {
    let mut passes = 0;
    for paths in [&["examples/orders", SECRETS][..], &["examples/banku", SECRETS], &[EVERYTHING]] {
        let mut fixture = Fixture::read(paths);
        for number in 0..(1 << 3) {
            let bit = |bit: u32| number & (1 << bit) != 0;
            fixture.found.has_keda = bit(0);
            fixture.found.log_id = bit(1).then(|| "0197d2a4-0000-7000-8000-000000000001".to_owned());
            if bit(2) {
                fixture.found.followers.clear();
            }
            for part in fixture.parts() {
                let first = children(&part, &fixture.found, &settings());
                let deployment = first.wanted.iter().find(|it| it.resource.kind == "Deployment").unwrap();
                let annotations: BTreeMap<String, String> =
                    serde_json::from_value(deployment.object["metadata"]["annotations"].clone()).unwrap();
                let replicas = deployment.object["spec"]["replicas"].as_u64().unwrap();
                let count = Count { replicas: replicas.try_into().unwrap(), is_scaled: false };
                let found =
                    Found { running: running(&annotations), count: Some(count), ..fixture.found.clone() };
                let second = children(&part, &found, &settings());
                // But for what pods read, which never changes.
                let kept = first.wanted.iter().filter(|it| it.object.get("immutable").is_none());
                assert!(second.wanted.iter().eq(kept), "{:?}", part.owner);
                assert_eq!(second.unwanted, first.unwanted);
                passes += 1;
            }
        }
    }
    assert!(passes > 50, "{passes}");
}

/// Who scales it owns the number of pods, and until then none is taken away.
#[test]
fn an_autoscaler_takes_over_the_number_of_pods_and_none_is_lost_meanwhile() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(EVERYTHING))
        .unwrap();
    let mut fixture = Fixture::parse(&text);
    let Autoscaler { least, most, .. } = fixture.part(Kind::Projection).unwrap().scale.autoscaling.unwrap();
    let mut asked = |count: Option<(u32, bool)>| {
        fixture.found.count = count.map(|(replicas, is_scaled)| Count { replicas, is_scaled });
        let children = children(&fixture.part(Kind::Projection).unwrap(), &fixture.found, &settings());
        let deployment = children.wanted.iter().find(|it| it.resource.kind == "Deployment").unwrap();
        deployment.object["spec"]["replicas"].as_u64()
    };
    assert!(least < most);
    assert_eq!(asked(None), Some(u64::from(1.clamp(least, most))), "the first count is what replicas says");
    assert_eq!(asked(Some((most, false))), Some(u64::from(most)), "as many as there are");
    assert_eq!(asked(Some((most + 5, false))), Some(u64::from(most)));
    assert_eq!(asked(Some((1, false))), Some(u64::from(least)));
    assert_eq!(asked(Some((least, true))), None, "they are the autoscaler's");
    assert_eq!(asked(Some((0, true))), Some(u64::from(1.clamp(least, most))), "it was stopped");
}
