//! What is wrong with a resource, where, and what to do: in its structure ([`Problem`]), and in a file ([`Fault`]).

use std::fmt;

/// Whether a fault stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The resource is refused.
    Error,
    /// The resource is taken; it is probably not what was meant.
    Warning,
}

/// Where something is within a resource: `spec.rules[2].set.amount`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    Field(String),
    Index(usize),
}

impl Path {
    /// The resource itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The field `name` of what is here.
    pub fn field(&self, name: impl Into<String>) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Field(name.into()));
        Self(steps)
    }

    /// The element `index` of the list here.
    pub fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }

    /// What is at the JSON pointer `pointer` from here. A step that is all digits is taken for an index.
    pub fn pointer_from(&self, pointer: &str) -> Self {
        let mut path = self.clone();
        for step in pointer.split('/').skip(1) {
            path.0.push(match step.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Field(step.replace("~1", "/").replace("~0", "~")),
            });
        }
        path
    }

    /// The path as a JSON pointer.
    pub fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.0 {
            pointer.push('/');
            match step {
                Step::Field(name) => pointer.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => pointer.push_str(&index.to_string()),
            }
        }
        pointer
    }

    /// What holds what is here; `None` at the root.
    pub fn parent(&self) -> Option<Self> {
        let (_, steps) = self.0.split_last()?;
        Some(Self(steps.to_vec()))
    }

    /// Whether it is the resource itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last field's name, for messages; `it` at the root.
    pub(crate) fn last_name(&self) -> &str {
        self.0
            .iter()
            .rev()
            .find_map(|step| match step {
                Step::Field(name) => Some(name.as_str()),
                Step::Index(_) => None,
            })
            .unwrap_or("it")
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Field(name) => {
                    let plain = !name.is_empty()
                        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '$'));
                    match (plain, at) {
                        (true, 0) => f.write_str(name)?,
                        (true, _) => write!(f, ".{name}")?,
                        (false, _) => write!(f, "[{name:?}]")?,
                    }
                }
            }
        }
        Ok(())
    }
}

/// Which part of what a path names is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The field's name.
    Key,
    /// Its value.
    Value,
    /// A place within its value, which is a text: line and character, both from 1.
    Text {
        /// The line of the text, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
    },
}

/// What is wrong with a resource, by path: what validation finds, whoever asks for it.
///
/// `Display` gives `spec.rules[2].set.amonut: no such column; did you mean "amount"?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub path: Path,
    /// Which part of it.
    pub at: At,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty when the message says it.
    pub remedy: String,
    /// Whether it stands in the way.
    pub severity: Severity,
}

impl Problem {
    /// Something is wrong with a value.
    pub fn new(path: Path, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            path,
            at: At::Value,
            message: message.into(),
            remedy: remedy.into(),
            severity: Severity::Error,
        }
    }

    /// The same, of the field's name.
    pub(crate) fn of_key(mut self) -> Self {
        self.at = At::Key;
        self
    }

    /// The same, but only a warning.
    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_text(f, &self.path.to_string(), &self.message, &self.remedy)
    }
}

/// What is wrong in a file, by line and column.
///
/// `Display` gives `orders.yaml:14:7: spec.rules[2].set.amonut: no such column; did you mean "amount"?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, as it was given.
    pub file: String,
    /// The line, from 1; 0 when the whole file is meant.
    pub line: usize,
    /// The character in the line, from 1; 0 when the whole file is meant.
    pub column: usize,
    /// Where in the resource; empty when the resource or the file is meant.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty when the message says it.
    pub remedy: String,
    /// Whether it stands in the way.
    pub severity: Severity,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        f.write_str(": ")?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        write_text(f, &self.path, &self.message, &self.remedy)
    }
}

fn write_text(f: &mut fmt::Formatter<'_>, path: &str, message: &str, remedy: &str) -> fmt::Result {
    if !path.is_empty() {
        write!(f, "{path}: ")?;
    }
    f.write_str(message)?;
    if !remedy.is_empty() {
        write!(f, "; {remedy}")?;
    }
    Ok(())
}

/// `did you mean "x"?` when one of `known` is close to `name`, else `there is "x", "y"` when they are few.
pub(crate) fn suggest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let distance =
        |candidate: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &candidate.to_lowercase());
    let nearest = known.iter().map(|candidate| (distance(candidate), *candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= name.chars().count().div_ceil(3) => {
            format!("did you mean \"{candidate}\"?")
        }
        _ if !known.is_empty() && known.len() <= 16 => format!("there is {}", list(known)),
        _ => String::new(),
    }
}

/// `"a", "b"`
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let path = Path::root().field("spec").field("rules").index(2).field("set").field("a b/c");
        assert_eq!(path.to_string(), "spec.rules[2].set[\"a b/c\"]");
        assert_eq!(path.pointer(), "/spec/rules/2/set/a b~1c");
        assert_eq!(Path::root().pointer_from(&path.pointer()), path);
        assert_eq!(path.parent().unwrap().to_string(), "spec.rules[2].set");
        assert_eq!(Path::root().parent(), None);
    }

    #[test]
    fn suggestions() {
        assert_eq!(suggest("amonut", ["amount", "status"]), "did you mean \"amount\"?");
        assert_eq!(suggest("x", ["amount", "status"]), "there is \"amount\", \"status\"");
        assert_eq!(suggest("x", []), "");
    }
}
