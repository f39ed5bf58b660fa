//! Which resource is meant.

use std::fmt;
use std::str::FromStr;

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    EventStream,
    Projection,
    Saga,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::EventStream, Self::Projection, Self::Saga];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::EventStream => "EventStream",
            Self::Projection => "Projection",
            Self::Saga => "Saga",
        }
    }

    /// As `kubectl get` takes it.
    fn names(self) -> [&'static str; 3] {
        match self {
            Self::EventStream => ["eventstream", "eventstreams", "evs"],
            Self::Projection => ["projection", "projections", "proj"],
            Self::Saga => ["saga", "sagas", "saga"],
        }
    }
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind.as_str(), self.name)
    }
}

impl FromStr for Target {
    type Err = String;

    /// Takes `KIND/NAME`, as `kubectl` does.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "give KIND/NAME, for example projection/orders";
        let (kind, name) = text.split_once('/').ok_or(wanted)?;
        let kind = Kind::ALL
            .into_iter()
            .find(|known| known.names().iter().any(|it| it.eq_ignore_ascii_case(kind)))
            .ok_or_else(|| format!("\"{kind}\" is none of eventstream, projection, saga; {wanted}"))?;
        if name.is_empty() || name.contains('/') {
            return Err(format!("\"{name}\" is no name; {wanted}"));
        }
        Ok(Self { kind, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_named_as_for_kubectl() {
        #[track_caller]
        fn check(text: &str, expected: Result<(Kind, &str), &str>) {
            match (text.parse::<Target>(), expected) {
                (Ok(target), Ok((kind, name))) => {
                    assert_eq!((target.kind, target.name.as_str()), (kind, name));
                }
                (Err(fault), Err(part)) => assert!(fault.contains(part), "{fault}"),
                (other, _) => panic!("{text:?} gave {other:?}"),
            }
        }
        check("projection/orders", Ok((Kind::Projection, "orders")));
        check("evs/orders", Ok((Kind::EventStream, "orders")));
        check("Sagas/place-order", Ok((Kind::Saga, "place-order")));
        check("orders", Err("KIND/NAME"));
        check("pod/orders", Err("\"pod\" is none of"));
        check("saga/", Err("no name"));
        check("saga/a/b", Err("no name"));
    }
}
