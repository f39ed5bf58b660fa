//! The variables of an expression: their types when it is compiled, their values when it is evaluated.

use std::borrow::Cow;

use crate::types::Type;
use crate::value::Value;

/// The variables that an expression may use, and their types.
///
/// ```
/// # use headwater_expr::{Scope, Type};
/// let scope = Scope::new().with("event", Type::Any).with("row", Type::nullable(Type::Any));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Scope {
    variables: Vec<(String, Type)>,
    escaped_names: bool,
}

impl Scope {
    /// A scope without variables.
    pub fn new() -> Scope {
        Scope::default()
    }

    /// Adds a variable, or gives another type to one that is there.
    pub fn with(mut self, name: impl Into<String>, r#type: Type) -> Scope {
        let name = name.into();
        match self.variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = r#type,
            None => self.variables.push((name, r#type)),
        }
        self
    }

    /// Field names are written as in the validation rules of custom resources, which can't write all of them plainly:
    /// `__namespace__` for `namespace` and other reserved words, `__dot__`, `__dash__`, `__slash__`, `__underscores__`.
    pub fn with_escaped_names(mut self) -> Scope {
        self.escaped_names = true;
        self
    }

    /// The name of the field that is written `name`.
    pub(crate) fn field_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.escaped_names && name.contains("__") {
            Cow::Owned(unescaped(name))
        } else {
            Cow::Borrowed(name)
        }
    }

    /// The type of the variable `name`.
    pub fn get(&self, name: &str) -> Option<&Type> {
        self.position(name).map(|slot| &self.variables[slot].1)
    }

    /// The names of the variables, in the order in which they were added.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.variables.iter().position(|(known, _)| known == name)
    }
}

fn unescaped(name: &str) -> String {
    const RESERVED: [&str; 18] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
    ];
    const ESCAPES: [(&str, &str); 4] =
        [("__dot__", "."), ("__dash__", "-"), ("__slash__", "/"), ("__underscores__", "__")];
    let word = name.strip_prefix("__").and_then(|rest| rest.strip_suffix("__"));
    if let Some(word) = word.filter(|word| RESERVED.contains(word)) {
        return word.to_owned();
    }
    let (mut plain, mut rest) = (String::new(), name);
    while let Some(first) = rest.chars().next() {
        let escape = ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape));
        let (length, meant) =
            escape.map_or((first.len_utf8(), &rest[..first.len_utf8()]), |(e, meant)| (e.len(), *meant));
        plain.push_str(meant);
        rest = &rest[length..];
    }
    plain
}

/// The values of an expression's variables for one evaluation.
///
/// Evaluation is fastest when they are added in the order of the [`Scope`].
#[derive(Clone, Debug, Default)]
pub struct Variables<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Variables<'a> {
    /// No variables.
    pub fn new() -> Variables<'a> {
        Variables { values: Vec::with_capacity(2) }
    }

    /// Adds a variable, or replaces its value.
    pub fn with(mut self, name: &'a str, value: impl Into<Value<'a>>) -> Variables<'a> {
        self.set(name, value);
        self
    }

    /// Adds a variable, or replaces its value.
    pub fn set(&mut self, name: &'a str, value: impl Into<Value<'a>>) {
        let value = value.into();
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.values.push((name, value)),
        }
    }

    /// The value of the variable `name`.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// The value of the variable `name`, looked for at `slot` first.
    pub(crate) fn get_at(&self, slot: usize, name: &str) -> Option<&Value<'a>> {
        match self.values.get(slot) {
            Some((known, value)) if *known == name => Some(value),
            _ => self.get(name),
        }
    }
}
