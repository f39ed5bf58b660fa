//! What each call of our ports needs of its caller: the one table. What is not in it is refused.
//!
//! Health tells platforms, which have no proof, nothing but whether to send traffic. Metrics count, under labels from closed sets, and those
//! who collect them have no proof either. Reflection and the event store's OpenAPI document are what is published with the source.

use headwater_runtime::auth::Need::{self, Decision, May, Nothing};
use headwater_runtime::auth::Needs;
use headwater_runtime::auth::Verb::{Admin, Append, Query, Read};

/// What a port of the event store answers.
pub(crate) const EVENT_STORE: Needs =
    Needs { grpc: &[PLATFORM_GRPC, EVENT_STORE_GRPC], http: &[PLATFORM_HTTP, EVENT_STORE_HTTP] };

/// What a port of the query API answers.
pub(crate) const QUERIES: Needs = Needs { grpc: &[PLATFORM_GRPC], http: &[PLATFORM_HTTP, QUERIES_HTTP] };

/// What a port of the API of sagas answers.
pub(crate) const SAGAS: Needs =
    Needs { grpc: &[PLATFORM_GRPC, SAGAS_GRPC], http: &[PLATFORM_HTTP, SAGAS_HTTP] };

type Grpc = &'static [(&'static str, Need)];
type Http = &'static [(&'static str, &'static str, Need)];

const PLATFORM_GRPC: Grpc = &[
    ("/grpc.health.v1.Health/Check", Nothing),
    ("/grpc.health.v1.Health/Watch", Nothing),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Nothing),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Nothing),
];

const PLATFORM_HTTP: Http =
    &[("GET", "/healthz", Nothing), ("GET", "/readyz", Nothing), ("GET", "/metrics", Nothing)];

const EVENT_STORE_GRPC: Grpc = &[
    ("/headwater.eventstore.v1.EventStore/Append", May(Append)),
    ("/headwater.eventstore.v1.EventStore/AppendStream", May(Append)),
    ("/headwater.eventstore.v1.EventStore/ReadStream", May(Read)),
    ("/headwater.eventstore.v1.EventStore/Read", May(Read)),
    ("/headwater.eventstore.v1.EventStore/Subscribe", May(Read)),
    ("/headwater.eventstore.v1.EventStore/GetStream", May(Read)),
    ("/headwater.eventstore.v1.EventStore/GetHead", May(Read)),
    ("/eventstore.EventStore/CreateEvent", May(Append)),
    ("/eventstore.EventStore/GetEvents", May(Read)),
    ("/eventstore.EventStore/GetEventsStream", May(Read)),
];

const EVENT_STORE_HTTP: Http = &[
    ("POST", "/v1/streams/{stream_id}/events", May(Append)),
    ("GET", "/v1/streams/{stream_id}/events", May(Read)),
    ("GET", "/v1/streams/{stream_id}", May(Read)),
    ("GET", "/v1/events", May(Read)),
    ("GET", "/v1/events/stream", May(Read)),
    ("GET", "/v1/head", May(Read)),
    ("GET", "/v1/partitions", May(Read)),
    ("GET", "/openapi.json", Nothing),
];

/// The document of the query API names tables and columns.
const QUERIES_HTTP: Http = &[
    ("GET", "/v1/projections", May(Query)),
    ("GET", "/v1/projections/{projection}", May(Query)),
    ("GET", "/v1/projections/{projection}/{table}", May(Query)),
    ("GET", "/v1/projections/{projection}/{table}/{*key}", May(Query)),
    ("GET", "/openapi.json", May(Query)),
    ("GET", "/v1/admin/projections", May(Admin)),
    ("GET", "/v1/admin/projections/{projection}", May(Admin)),
    ("GET", "/v1/admin/projections/{projection}/parked", May(Admin)),
    ("POST", "/v1/admin/projections/{projection}/replay", Decision),
    ("POST", "/v1/admin/projections/{projection}/skip", Decision),
    ("POST", "/v1/admin/projections/{projection}/{command}", Decision),
];

const SAGAS_GRPC: Grpc = &[
    ("/headwater.saga.v1.Sagas/ListSagas", May(Query)),
    ("/headwater.saga.v1.Sagas/GetSaga", May(Query)),
    ("/headwater.saga.v1.Sagas/ListInstances", May(Query)),
    ("/headwater.saga.v1.Sagas/GetInstance", May(Query)),
    ("/headwater.saga.v1.Sagas/ListNotStarted", May(Query)),
    ("/headwater.saga.v1.Sagas/GetGraph", May(Query)),
    ("/headwater.saga.v1.Sagas/Retry", Decision),
    ("/headwater.saga.v1.Sagas/Skip", Decision),
    ("/headwater.saga.v1.Sagas/Abort", Decision),
    ("/headwater.saga.v1.Sagas/Resume", Decision),
];

const SAGAS_HTTP: Http = &[
    ("GET", "/v1/sagas", May(Query)),
    ("GET", "/v1/sagas/{saga}", May(Query)),
    ("GET", "/v1/sagas/{saga}/instances", May(Query)),
    ("GET", "/v1/sagas/{saga}/instances/{instance}", May(Query)),
    ("POST", "/v1/sagas/{saga}/instances/{instance}/{command}", Decision),
    ("GET", "/v1/sagas/{saga}/not-started", May(Query)),
    ("GET", "/v1/sagas/{saga}/graph", May(Query)),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use headwater_api::{EVENT_STORE_DESCRIPTORS, SAGA_DESCRIPTORS};
    use prost_types::FileDescriptorSet;

    use super::*;

    fn methods(descriptors: &[u8]) -> BTreeSet<String> {
        let set: FileDescriptorSet = prost::Message::decode(descriptors).unwrap();
        let mut methods = BTreeSet::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    methods.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        methods
    }

    /// Every method that the port describes by reflection is in the table, and nothing else is.
    #[test]
    fn every_method_of_grpc_has_its_need() {
        let mut reflection = BTreeSet::new();
        for descriptors in [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            reflection.extend(methods(descriptors));
        }
        for (needs, descriptors) in [(EVENT_STORE, EVENT_STORE_DESCRIPTORS), (SAGAS, SAGA_DESCRIPTORS)] {
            let mut served = methods(descriptors);
            assert!(served.len() >= 10, "{served:?}");
            served.extend(reflection.iter().cloned());
            let listed: BTreeSet<String> =
                needs.grpc.iter().copied().flatten().map(|(method, _)| (*method).to_owned()).collect();
            assert_eq!(served, listed);
        }
    }

    /// The routes as the sources write them: axum lists none.
    fn routes(sources: &[&str]) -> BTreeSet<(String, String)> {
        let mut routes = BTreeSet::new();
        for source in sources {
            // What tests serve stands at the end of a file.
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for route in source.split(".route(").skip(1) {
                let path = route.split('"').nth(1).expect("a path");
                let handlers = route.split(".route(").next().unwrap_or_default();
                let handlers = &handlers[handlers.find(path).unwrap_or_default() + path.len()..];
                let handlers = handlers.split(".fallback(").next().unwrap_or_default();
                let handlers = handlers.split("\n}").next().unwrap_or_default();
                let mut found = false;
                for method in ["get", "post", "put", "delete", "patch", "any", "head", "options"] {
                    for before in [" ", "."] {
                        if handlers.contains(&format!("{before}{method}(")) {
                            routes.insert((method.to_uppercase(), path.to_owned()));
                            found = true;
                        }
                    }
                }
                assert!(found, "no method of {path} was found in {handlers}");
            }
        }
        routes
    }

    #[test]
    fn every_route_of_http_has_its_need() {
        let platform = include_str!("../../runtime/src/health.rs");
        for (needs, sources) in [
            (EVENT_STORE, &[platform, include_str!("../../eventstore/src/http.rs")][..]),
            (
                QUERIES,
                &[
                    platform,
                    include_str!("../../projection/src/http.rs"),
                    include_str!("../../projection/src/http/admin.rs"),
                ],
            ),
            (SAGAS, &[platform, include_str!("../../saga/src/http.rs")]),
        ] {
            let served = routes(sources);
            let listed: BTreeSet<(String, String)> = needs
                .http
                .iter()
                .copied()
                .flatten()
                .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
                .collect();
            assert_eq!(served, listed);
        }
    }

    #[test]
    fn a_call_is_found_by_its_method_and_by_nothing_that_is_like_it() {
        use http::Method;
        let grpc = "/headwater.eventstore.v1.EventStore/{*rest}";
        let of = |method, route, path| EVENT_STORE.of(&method, route, path);
        let append = "/headwater.eventstore.v1.EventStore/Append";
        assert_eq!(of(Method::POST, grpc, append), Some(May(Append)));
        assert_eq!(of(Method::POST, grpc, "/headwater.eventstore.v1.EventStore/append"), None);
        assert_eq!(of(Method::POST, grpc, "/headwater.eventstore.v1.EventStore/%41ppend"), None);
        assert_eq!(of(Method::GET, "/v1/head", "/v1/head"), Some(May(Read)));
        assert_eq!(of(Method::HEAD, "/v1/head", "/v1/head"), Some(May(Read)));
        assert_eq!(of(Method::DELETE, "/v1/head", "/v1/head"), None);
        assert_eq!(of(Method::GET, "/v1/heads", "/v1/head"), None);
    }
}
