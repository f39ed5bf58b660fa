//! The invariants of `crates/README.md`: which crate may use which, and under which licences we build.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// For each crate, all of ours that it may use. What is not here is not allowed.
const MAY_USE: &[(&str, &[&str])] = &[
    // Words.
    ("core", &[]),
    ("expr", &["core"]),
    ("resources", &["core", "expr"]),
    // Ports.
    ("log", &["core"]),
    ("bus", &["core", "log"]),
    ("view", &["core"]),
    // Adapters.
    ("sql", &["core", "log", "bus", "view"]),
    ("nats", &["core", "bus"]),
    ("kafka", &["core", "bus"]),
    ("redis", &["core", "view"]),
    // Wire.
    ("api", &["core", "log"]),
    // Services.
    ("runtime", &["core"]),
    ("eventstore", &["core", "api", "log", "bus", "expr", "resources", "runtime"]),
    ("projection", &["core", "api", "log", "bus", "view", "expr", "resources", "runtime"]),
    ("saga", &["core", "api", "log", "expr", "resources", "runtime"]),
    // Programs.
    (
        "server",
        &[
            "core",
            "api",
            "log",
            "bus",
            "view",
            "sql",
            "nats",
            "kafka",
            "redis",
            "expr",
            "resources",
            "runtime",
            "eventstore",
            "projection",
            "saga",
        ],
    ),
    ("operator", &["core", "api", "resources", "runtime"]),
    ("cli", &["core", "api", "resources", "runtime", "saga", "server"]),
    ("multicall", &["cli", "operator", "server"]),
    ("testkit", &["core", "api", "log", "resources"]),
    ("bench", &["core", "api", "log", "testkit"]),
];

/// Programs outside `crates/`, which users copy: they see what users see.
const EXAMPLES: &[&str] = &["banku", "orders"];
const EXAMPLES_MAY_USE: &[&str] = &["core", "api"];

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().expect("cargo metadata runs")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .and_then(Path::parent)
        .expect("crates/testkit lies in the workspace")
}

fn normal_dependencies(package: &Package) -> BTreeSet<&str> {
    package
        .dependencies
        .iter()
        .filter(|it| it.kind != DependencyKind::Development)
        .map(|it| it.name.as_str())
        .collect()
}

fn ours(package: &Package) -> BTreeSet<&str> {
    normal_dependencies(package).into_iter().filter_map(|name| name.strip_prefix("headwater-")).collect()
}

#[test]
fn dependencies_point_the_way_that_the_map_says() {
    let metadata = metadata();
    let rules: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut seen = BTreeSet::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let allowed = if let Some(name) = name.strip_prefix("headwater-") {
            seen.insert(name);
            *rules.get(name).unwrap_or_else(|| {
                panic!("crates/{name} is not in the map: add it to MAY_USE and to crates/README.md")
            })
        } else if EXAMPLES.contains(&name) {
            EXAMPLES_MAY_USE
        } else {
            assert_eq!(name, "xtask", "a package outside the map");
            &[]
        };
        for used in ours(package) {
            assert!(allowed.contains(&used), "`{name}` may not use `headwater-{used}`; see crates/README.md");
        }
    }
    for (name, _) in MAY_USE {
        assert!(seen.contains(name), "the map names `{name}`, which is not there");
    }
}

#[test]
fn only_the_adapters_speak_to_a_technology() {
    for package in metadata().workspace_packages() {
        for (technology, allowed) in [
            ("rusqlite", &["headwater-sql"][..]),
            ("sqlx", &["headwater-sql"]),
            // The benchmarks read as any client of NATS does.
            ("async-nats", &["headwater-nats", "headwater-bench"]),
            ("rdkafka", &["headwater-kafka"]),
            ("redis", &["headwater-redis"]),
        ] {
            let name = package.name.as_str();
            assert!(
                !normal_dependencies(package).contains(technology) || allowed.contains(&name),
                "`{name}` uses {technology}, which belongs in {allowed:?}"
            );
        }
    }
}

#[test]
fn only_the_operator_and_the_command_use_the_kubernetes_client() {
    for package in metadata().workspace_packages() {
        let name = package.name.as_str();
        let client = package
            .dependencies
            .iter()
            .any(|it| it.name == "kube" && it.features.iter().any(|it| it == "client" || it == "runtime"));
        assert!(
            // The benchmark is a client like users' own.
            !client || ["headwater-operator", "headwater-cli", "headwater-bench"].contains(&name),
            "`{name}` uses kube's client"
        );
    }
}

#[test]
fn every_crate_stands_in_the_readme_of_the_crates() {
    let readme = std::fs::read_to_string(root().join("crates/README.md")).expect("crates/README.md is there");
    for (name, _) in MAY_USE {
        assert!(readme.contains(&format!("| `{name}` |")), "crates/README.md has no line for `{name}`");
    }
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    #[derive(serde::Deserialize)]
    struct Deny {
        licenses: Licenses,
    }
    #[derive(serde::Deserialize)]
    struct Licenses {
        allow: Vec<String>,
    }
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml is there");
    let deny: Deny = toml::from_str(&text).expect("deny.toml is TOML");
    let allowed: Vec<spdx::Licensee> =
        deny.licenses.allow.iter().map(|it| spdx::Licensee::parse(it).expect("an SPDX licence")).collect();
    for package in &metadata().packages {
        let licence =
            package.license.as_deref().unwrap_or_else(|| panic!("{} names no licence", package.name));
        let expression = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{}: {error}", package.name));
        assert!(
            expression.evaluate(|required| allowed.iter().any(|it| it.satisfies(required))),
            "{} is under {licence}, which deny.toml does not allow",
            package.name
        );
    }
}
