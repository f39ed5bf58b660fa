//! Manifests before kubeconform, against the schemas that this API server publishes of what it serves, our definitions included.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use headwater_testkit::judges::{WATCHED, ask, render, workspace};
use serde_json::{Value, json};

use crate::kubectl::{kubectl, operator};

/// Kinds that only operators of others know, whose definitions are not in this cluster; `it::gitops` has them judged by their types.
const OF_OTHERS: &str = "PodMonitor,PrometheusRule,ServiceMonitor";

/// Writes the schema of every kind, a file each, which takes no field that the API server does not know.
fn write_schemas(folder: &Path) -> Result<()> {
    let index: Value = serde_json::from_str(&kubectl(&["get", "--raw", "/openapi/v3"], "")?)?;
    for path in index["paths"].as_object().context("paths")?.keys() {
        let (group, version) = match path.split('/').collect::<Vec<_>>()[..] {
            ["api", version] => (version, version),
            ["apis", group, version] => (group, version),
            _ => continue,
        };
        // Another test's definitions, which are made and deleted meanwhile.
        if group.ends_with(".test") {
            continue;
        }
        let text = kubectl(&["get", "--raw", &format!("/openapi/v3/{path}")], "")?;
        let text = text.replace("#/components/schemas/", "#/definitions/");
        let mut document: Value = serde_json::from_str(&text)?;
        let Value::Object(mut schemas) = document["components"]["schemas"].take() else { continue };
        schemas.values_mut().for_each(close);
        std::fs::create_dir_all(folder.join(group))?;
        for (name, schema) in &schemas {
            for kind in schema["x-kubernetes-group-version-kind"].as_array().into_iter().flatten() {
                if kind["version"] != version {
                    continue;
                }
                let mut used = BTreeSet::new();
                collect(schema, &schemas, &mut used);
                let definitions: BTreeMap<_, _> = used.iter().map(|name| (name, &schemas[name])).collect();
                let file =
                    format!("{}_{version}.json", kind["kind"].as_str().context("a kind")?.to_lowercase());
                let whole = json!({"allOf": [schemas[name]], "definitions": definitions});
                std::fs::write(folder.join(group).join(file), whole.to_string())?;
            }
        }
    }
    Ok(())
}

/// Has `schema` take no field that it does not name, as `--strict` wants it.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let is_open = object.contains_key("additionalProperties")
                || object.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
            if object.get("properties").is_some_and(Value::is_object) && !is_open {
                object.insert("additionalProperties".to_owned(), json!(false));
            }
            object.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// Adds to `used` the names of those that `schema` refers to.
fn collect(schema: &Value, schemas: &serde_json::Map<String, Value>, used: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            let name =
                object.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix("#/definitions/"));
            if let Some(name) = name
                && used.insert(name.to_owned())
            {
                collect(&schemas[name], schemas, used);
            }
            object.values().for_each(|value| collect(value, schemas, used));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, schemas, used)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_manifest_is_as_this_api_server_says_that_it_is() -> Result<()> {
    let _operator = operator().await?;
    let folder = tempfile::tempdir()?;
    write_schemas(folder.path())?;
    let location = format!(
        "{}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
        folder.path().display()
    );
    // How many objects are valid.
    let judge = |manifests: &str| -> Result<u64> {
        let words = [
            "-strict",
            "-summary",
            "-output",
            "json",
            "-skip",
            OF_OTHERS,
            "-schema-location",
            &location,
            "-",
        ];
        let said: Value = serde_json::from_str(&ask("kubeconform", &words, manifests)?)?;
        said["summary"]["valid"].as_u64().with_context(|| said.to_string())
    };
    let root = workspace();
    let file = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned());

    let narrow =
        ["--set", "replicas=3,watchNamespace=shop,image.pullSecrets[0].name=key,priorityClassName=high"];
    let placed =
        ["--set", "nodeSelector.a=b,tolerations[0].operator=Exists,podLabels.c=d,crds.install=false"];
    let base = kubectl(&["kustomize", root.join("deploy/operator").to_str().context("a path")?], "")?;
    for (what, manifests, least) in [
        ("the chart", render(&[])?, 12),
        ("the chart, watched", render(&WATCHED)?, 13),
        ("the chart, in one namespace", render(&narrow)?, 13),
        ("the chart, placed", render(&placed)?, 9),
        ("the base", base, 13),
        ("Argo CD's ConfigMap", file("deploy/argocd/argocd-cm.yaml")?, 1),
        ("the servers of the Orders", file("examples/orders/cluster/servers.yaml")?, 5),
        ("the services of the Orders", file("examples/orders/cluster/services.yaml")?, 6),
        ("the event stream of the Orders", file("examples/orders/eventstream.yaml")?, 1),
        ("the projection of the Orders", file("examples/orders/projection.yaml")?, 1),
        ("the saga of the Orders", file("examples/orders/saga.yaml")?, 1),
        ("the event stream of Banku", file("examples/banku/eventstream.yaml")?, 1),
        ("the projection of Banku", file("examples/banku/projection.yaml")?, 1),
    ] {
        let valid = judge(&manifests).with_context(|| what.to_owned())?;
        ensure!(valid >= least, "{what}: only {valid} objects are valid");
    }
    for (manifests, is, is_not) in [
        (render(&[])?, "imagePullPolicy:", "imagePullPolice:"),
        (file("examples/orders/saga.yaml")?, "maxAttempts: 8", "maxAttempts: eight"),
        (file("examples/orders/projection.yaml")?, "streamRef:", "streamReference:"),
        (file("examples/orders/cluster/services.yaml")?, "readinessProbe:", "readyProbe:"),
    ] {
        ensure!(manifests.contains(is), "{is}");
        ensure!(judge(&manifests.replace(is, is_not)).is_err(), "{is_not} was not refused");
    }
    Ok(())
}

/// The objects of manifests by what and where they are, without what only Helm says of them.
fn objects(manifests: [&str; 2]) -> Result<BTreeMap<String, Value>> {
    let json = kubectl(&[&["create", "--dry-run=client", "--output=json"][..], &manifests].concat(), "")?;
    let mut objects = BTreeMap::new();
    for object in serde_json::Deserializer::from_str(&json).into_iter::<Value>() {
        let mut object = object?;
        let metadata = object["metadata"].as_object_mut().context("metadata")?;
        for left_out in ["labels", "annotations"] {
            metadata.remove(left_out);
        }
        let key =
            format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]);
        objects.insert(key, object);
    }
    Ok(objects)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_base_is_applied_by_kubectl_and_has_what_the_chart_has() -> Result<()> {
    let _operator = operator().await?;
    let base = workspace().join("deploy/operator");
    let base = base.to_str().context("a path")?;
    let mut ours = objects(["--kustomize", base])?;
    ensure!(ours.remove("\"Namespace\" null \"headwater\"").is_some(), "{:?}", ours.keys());
    let mut chart = tempfile::NamedTempFile::new()?;
    chart.write_all(render(&[])?.as_bytes())?;
    let theirs = objects(["--filename", chart.path().to_str().context("a path")?])?;
    ensure!(ours.keys().eq(theirs.keys()), "{:?} {:?}", ours.keys(), theirs.keys());
    for (key, object) in &ours {
        ensure!(*object == theirs[key], "{key}: {object} and {}", theirs[key]);
    }
    let words = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "--output=name",
        "--kustomize",
        base,
    ];
    let applied = kubectl(&words, "")?;
    ensure!(applied.lines().count() == ours.len() + 1, "{applied}");
    Ok(())
}
