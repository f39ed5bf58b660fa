//! What the definitions of the resources refuse: a real API server and validation offline say the same.
//!
//! ```text
//!                     ┌─▶ API server, which has the definitions under a group of the test's own
//! rules/*.yaml ─case──┤
//!                     └─▶ manifest::read_texts
//! ```

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use headwater_resources::fault::Fault;
use headwater_resources::{VERSION, crd, manifest};
use headwater_testkit::process::Process;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::kubectl::{Namespace, kubectl, kubectl_command};

/// What one file says of one kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    base: Value,
    rules: Vec<Case>,
}

/// A rule, and what it takes and does not take.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Where it stands in the schema.
    rule: String,
    says: String,
    /// The field that a refusal is about.
    at: String,
    /// Of a rule about changes: what is there already.
    before: Option<Value>,
    accepts: Vec<Value>,
    refuses: Vec<Value>,
}

/// What is refused by no rule, but by a type, a bound or a name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Structure {
    kind: String,
    refuses: Value,
    at: String,
    server: String,
    offline: String,
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    Ok(serde_saphyr::from_str(text)?)
}

fn files() -> Result<[File; 3]> {
    Ok([
        read(include_str!("rules/eventstream.yaml"))?,
        read(include_str!("rules/projection.yaml"))?,
        read(include_str!("rules/saga.yaml"))?,
    ])
}

impl File {
    fn kind(&self) -> &str {
        self.base["kind"].as_str().unwrap_or_default()
    }

    fn with(&self, change: &Value) -> Value {
        let mut manifest = self.base.clone();
        merge(&mut manifest, change);
        manifest
    }
}

/// A merge patch: maps go into one another, null takes away, and all else takes the place of what was.
fn merge(into: &mut Value, change: &Value) {
    let Value::Object(changes) = change else {
        into.clone_from(change);
        return;
    };
    for (name, change) in changes {
        match (change, into.get_mut(name)) {
            (Value::Null, _) => drop(into.as_object_mut().and_then(|fields| fields.shift_remove(name))),
            (_, Some(inner)) => merge(inner, change),
            (_, None) => into[name] = change.clone(),
        }
    }
}

/// Each rule of a schema: where it stands, and its message.
fn each_rule(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &str)) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        visit(path, rule["message"].as_str().unwrap_or_default());
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        each_rule(property, &path, visit);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            each_rule(&schema[key], &format!("{path}[]"), visit);
        }
    }
}

#[test]
fn every_rule_has_a_case_that_it_accepts_and_one_that_it_refuses() -> Result<()> {
    let mut rules = BTreeSet::new();
    for definition in crd::definitions() {
        each_rule(definition.schema(), "", &mut |path, message| {
            let rule = format!("{} {path}: {message}", definition.kind);
            assert!(rules.insert(rule.clone()), "there is another {rule}");
        });
    }
    let (mut accepting, mut refusing) = (BTreeSet::new(), BTreeSet::new());
    for file in files()? {
        for case in &file.rules {
            let rule = format!("{} {}: {}", file.kind(), case.rule, case.says);
            accepting.extend((!case.accepts.is_empty()).then(|| rule.clone()));
            refusing.extend((!case.refuses.is_empty()).then_some(rule));
        }
    }
    for (what, having) in [("accepts", accepting), ("refuses", refusing)] {
        let without: Vec<_> = rules.difference(&having).collect();
        ensure!(without.is_empty(), "no case that it {what}: {without:#?}");
        let unknown: Vec<_> = having.difference(&rules).collect();
        ensure!(unknown.is_empty(), "no such rule: {unknown:#?}");
    }
    Ok(())
}

/// What is wrong with a manifest, as a laptop says it: the field, and what.
fn offline(manifest: &Value, stream: &Value) -> Vec<(String, String)> {
    let beside = include_str!("rules/beside.yaml").to_owned();
    let texts = [
        ("manifest.yaml", manifest.to_string()),
        ("beside.yaml", beside),
        ("stream.yaml", stream.to_string()),
    ];
    // A stream stands for itself.
    let count = if manifest["kind"] == stream["kind"] { 2 } else { 3 };
    let read = manifest::read_texts(texts.iter().take(count).map(|(name, text)| (*name, text.as_str())));
    let said = |fault: &Fault| match fault.remedy.as_str() {
        "" => fault.message.clone(),
        remedy => format!("{}; {remedy}", fault.message),
    };
    read.errors().map(|fault| (fault.path.clone(), said(fault))).collect()
}

/// An API server, with definitions that nobody else uses, so that it matters to nobody which are installed.
struct Server {
    group: String,
    namespace: Namespace,
    _proxy: Process,
    url: String,
    http: reqwest::Client,
}

impl Server {
    async fn start() -> Result<Self> {
        let namespace = Namespace::new("rules")?;
        let group = format!("{}.test", namespace.name);
        let mut proxy = kubectl_command()?;
        proxy.args(["proxy", "--port=0"]);
        let mut proxy = Process::start(proxy.into())?;
        let address = |line: &str| line.strip_prefix("Starting to serve on ").map(str::to_owned);
        let address = proxy.line("where it serves", address).await?;
        let url = format!("http://{}/apis/{group}/{VERSION}/namespaces/{}", address.trim(), namespace.name);
        let server = Self {
            group,
            namespace,
            _proxy: proxy,
            url,
            http: reqwest::Client::builder().no_proxy().build()?,
        };
        for definition in crd::definitions() {
            let mut resource = definition.resource().clone();
            let plural = server.plural(definition.kind);
            resource["metadata"]["name"] = format!("{plural}.{}", server.group).into();
            resource["spec"]["group"] = server.group.clone().into();
            let names = json!({"kind": definition.kind, "plural": plural, "singular": plural, "listKind": format!("{}List", definition.kind)});
            resource["spec"]["names"] = names;
            kubectl(&["create", "--filename", "-"], &resource.to_string())?;
        }
        for definition in crd::definitions() {
            let served = async || {
                let list = server.http.get(format!("{}/{}", server.url, server.plural(definition.kind)));
                Ok((list.send().await?.status() == StatusCode::OK).then_some(()))
            };
            server.namespace.eventually(&format!("that {}s are served", definition.kind), served).await?;
        }
        Ok(server)
    }

    /// Under a name that makes no other `kubectl get` ambiguous.
    fn plural(&self, kind: &str) -> String {
        format!("{}-{}s", self.namespace.name, kind.to_lowercase())
    }

    /// Has a manifest created, or put in the place of another: the object, or the refusal.
    async fn send(&self, method: Method, manifest: &Value, parameters: &str) -> Result<Result<Value, Value>> {
        let mut manifest = manifest.clone();
        manifest["apiVersion"] = format!("{}/{VERSION}", self.group).into();
        let kind = manifest["kind"].as_str().context("a kind")?;
        let mut url = format!("{}/{}", self.url, self.plural(kind));
        if method == Method::PUT {
            url = format!("{url}/{}", manifest["metadata"]["name"].as_str().context("a name")?);
        }
        let request = self.http.request(method, format!("{url}?fieldValidation=Strict{parameters}"));
        let answer = request.json(&manifest).send().await?;
        let refuses = [StatusCode::UNPROCESSABLE_ENTITY, StatusCode::BAD_REQUEST].contains(&answer.status());
        ensure!(refuses || answer.status().is_success(), "{answer:?}");
        let object = answer.json().await?;
        Ok(if refuses { Err(object) } else { Ok(object) })
    }

    async fn create(&self, manifest: &Value) -> Result<Result<Value, Value>> {
        self.send(Method::POST, manifest, "&dryRun=All").await
    }

    /// What becomes of the object `before` when it is to be as `manifest` says.
    async fn change(&self, before: &Value, manifest: &Value) -> Result<Result<Value, Value>> {
        let mut manifest = manifest.clone();
        manifest["metadata"] = before["metadata"].clone();
        self.send(Method::PUT, &manifest, "&dryRun=All").await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let definitions = crd::definitions()
            .iter()
            .map(|it| format!("customresourcedefinition/{}.{}", self.plural(it.kind), self.group));
        let definitions: Vec<_> = definitions.collect();
        let words = ["delete", "--wait=false", "--ignore-not-found"]
            .into_iter()
            .chain(definitions.iter().map(String::as_str));
        if let Err(error) = kubectl(&words.collect::<Vec<_>>(), "") {
            eprintln!("{error:#}");
        }
    }
}

/// All that a refusal names: the field, and what is wrong with it. Of unknown fields there is but a text.
fn causes(refusal: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(causes) = refusal["details"]["causes"].as_array() {
        return causes.iter().map(|it| (text(&it["field"]), text(&it["message"]))).collect();
    }
    let message = text(&refusal["message"]);
    let field = message.split("unknown field ").nth(1).unwrap_or_default().trim_matches('"').to_owned();
    vec![(field, message)]
}

impl Case {
    /// Whether this is what the server answers, and nothing else. A rule of the name stands on the whole resource; of a text or number, the
    /// value is said.
    fn is_said_by_server(&self, said: &[(String, String)]) -> bool {
        let [(field, message)] = said else { return false };
        let message = message.strip_prefix("Invalid value: ").unwrap_or_default();
        let at = if self.rule.is_empty() { "<nil>" } else { &self.at };
        field == at && (message == self.says || message.ends_with(&format!(": {}", self.says)))
    }

    /// Whether a laptop says it, with whatever else.
    fn is_said_offline(&self, said: &[(String, String)]) -> bool {
        let message = self.says.strip_prefix(&format!("{} ", self.at)).unwrap_or(&self.says);
        said.iter().any(|it| it.0 == self.at && it.1 == message)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_and_a_laptop_accept_and_refuse_the_same_and_say_what_to_write_instead() -> Result<()> {
    let server = Server::start().await?;
    let files = files()?;
    let stream = &files[0].base;
    let mut wrong = Vec::new();
    for file in &files {
        for (number, case) in file.rules.iter().enumerate() {
            let before = match &case.before {
                Some(before) => {
                    let mut before = file.with(before);
                    before["metadata"]["name"] = format!("case-{number}").into();
                    let created = server.send(Method::POST, &before, "").await?;
                    Some(created.map_err(|refusal| anyhow::anyhow!("{before}: {refusal}"))?)
                }
                None => None,
            };
            for (is_accepted, change) in
                case.accepts.iter().map(|it| (true, it)).chain(case.refuses.iter().map(|it| (false, it)))
            {
                let manifest = file.with(change);
                let answer = match &before {
                    Some(before) => server.change(before, &manifest).await?,
                    None => server.create(&manifest).await?,
                };
                let said = answer.as_ref().err().map(causes).unwrap_or_default();
                if is_accepted != said.is_empty() || !is_accepted && !case.is_said_by_server(&said) {
                    wrong.push(format!("{}: the server says {said:?} of {manifest}", case.says));
                }
                let said = offline(&manifest, stream);
                // What was there before is known to a server alone.
                let is_refused = !is_accepted && before.is_none();
                if is_refused == said.is_empty() || is_refused && !case.is_said_offline(&said) {
                    wrong.push(format!("{}: offline is said {said:?} of {manifest}", case.says));
                }
            }
        }
    }
    for case in read::<Vec<Structure>>(include_str!("rules/structure.yaml"))? {
        let file = files.iter().find(|file| file.kind() == case.kind).context("a kind")?;
        let manifest = file.with(&case.refuses);
        let names = |(field, message): &(String, String), text: &str| {
            field.starts_with(&case.at) && message.contains(text)
        };
        let said = server.create(&manifest).await?.err().as_ref().map(causes).unwrap_or_default();
        if !said.iter().any(|it| names(it, &case.server)) {
            wrong.push(format!("the server says {said:?}, not {:?}, of {manifest}", case.server));
        }
        let said = offline(&manifest, stream);
        if !said.iter().any(|it| names(it, &case.offline)) {
            wrong.push(format!("offline is said {said:?}, not {:?}, of {manifest}", case.offline));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
