//! How older events are brought up to date before rules see them.

use std::collections::HashMap;

use headwater_expr::{Scope, Type, Upcast, Upcasts, event_type};
use headwater_resources::event_stream::EventTypeUpcasts;

use crate::plan::Faults;

/// Compiles the steps.
pub(crate) fn upcasts(event_types: &[EventTypeUpcasts], faults: &mut Faults) -> Upcasts {
    let scope = Scope::new().with("event", event_type(Type::Any));
    let mut upcasts = Upcasts::default();
    for (index, event_type) in event_types.iter().enumerate() {
        let mut steps = HashMap::new();
        for (number, upcast) in event_type.upcast.iter().enumerate() {
            let path = format!("eventTypes[{index}].upcast[{number}]");
            let set: Vec<_> = upcast
                .set
                .iter()
                .filter_map(|(field, source)| {
                    let path = format!("{path}.set.{field}");
                    faults
                        .compile(&path, source, &scope, &Type::Any)
                        .map(|expression| (field.clone(), expression))
                })
                .collect();
            if steps.insert(upcast.from, set).is_some() {
                faults.add(&path, format!("there is another step from version {}; keep one", upcast.from));
            }
        }
        upcasts.insert(&event_type.name, Upcast { schema_version: event_type.schema_version, steps });
    }
    upcasts
}
