//! Evaluation of compiled expressions.

use std::borrow::Cow;
use std::ops::{Deref, Range};
use std::sync::Arc;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::budget::Budget;
use crate::fault::suggest;
use crate::functions::{self, Function, number, with_article};
use crate::scope::Variables;
use crate::tree::{Comprehension, Kind, Macro, Node, Operator};
use crate::value::{Value, fields};

mod operators;

/// A turn of a macro, in steps of the budget.
const TURN_STEPS: usize = 16;

/// What failed, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) range: Range<usize>,
    pub(crate) message: String,
}

/// Failures are boxed: they are rare, and results are moved often.
pub(crate) type Outcome<T> = Result<T, Box<Failure>>;

/// Evaluates the expression `root`, compiled from `source`.
pub(crate) fn evaluate<'e>(
    root: &'e Node,
    source: &'e str,
    variables: &'e Variables<'e>,
) -> Outcome<Value<'e>> {
    let mut evaluator = Evaluator { source, variables, locals: Vec::new(), budget: Budget::new() };
    evaluator.eval(root).map(Operand::into_value)
}

/// A value on its way: still where it is kept, or made.
#[derive(Clone, Debug)]
enum Operand<'e> {
    Kept(&'e Value<'e>),
    Made(Value<'e>),
}

impl<'e> Deref for Operand<'e> {
    type Target = Value<'e>;

    fn deref(&self) -> &Value<'e> {
        match self {
            Operand::Kept(value) => value,
            Operand::Made(value) => value,
        }
    }
}

impl<'e> Operand<'e> {
    /// The value; kept text is borrowed.
    fn into_value(self) -> Value<'e> {
        match self {
            Operand::Kept(Value::Text(text)) => Value::Text(Cow::Borrowed(text)),
            Operand::Kept(value) => value.clone(),
            Operand::Made(value) => value,
        }
    }

    fn field(&self, name: &str) -> Option<Operand<'e>> {
        match self {
            Operand::Kept(Value::Map(map)) => map.get(name).map(Operand::Kept),
            Operand::Made(Value::Map(map)) => map.get(name).cloned().map(Operand::Made),
            Operand::Kept(Value::Object(object)) | Operand::Made(Value::Object(object)) => {
                object.field(name).map(Operand::Made)
            }
            _ => None,
        }
    }

    fn element(&self, at: usize) -> Option<Operand<'e>> {
        match self {
            Operand::Kept(Value::List(elements)) => elements.get(at).map(Operand::Kept),
            Operand::Made(Value::List(elements)) => elements.get(at).cloned().map(Operand::Made),
            _ => None,
        }
    }

    /// What a macro goes through: the elements of a list, or the keys of a map as a list. `None` for other values.
    fn elements(self) -> Option<Operand<'e>> {
        let keys: Arc<[Value<'e>]> = match &self {
            Operand::Kept(Value::List(_)) | Operand::Made(Value::List(_)) => return Some(self),
            Operand::Kept(Value::Map(map)) => {
                map.entries().iter().map(|(key, _)| Value::from(&**key)).collect()
            }
            Operand::Made(Value::Map(map)) => {
                map.entries().iter().map(|(key, _)| Value::Text(key.clone())).collect()
            }
            Operand::Kept(Value::Object(object)) | Operand::Made(Value::Object(object)) => {
                fields(*object).map(|(name, _)| Value::from(name.to_owned())).collect()
            }
            _ => return None,
        };
        Some(Operand::Made(Value::List(keys)))
    }
}

struct Evaluator<'e> {
    source: &'e str,
    variables: &'e Variables<'e>,
    /// The variables of the macros around, from the outermost.
    locals: Vec<Operand<'e>>,
    budget: Budget,
}

#[cold]
fn failure<T>(node: &Node, message: impl Into<String>) -> Outcome<T> {
    Err(Box::new(Failure { range: node.range.clone(), message: message.into() }))
}

fn made<'e>(value: impl Into<Value<'e>>) -> Operand<'e> {
    Operand::Made(value.into())
}

impl<'e> Evaluator<'e> {
    fn eval(&mut self, node: &'e Node) -> Outcome<Operand<'e>> {
        self.spend(1, node)?;
        match &node.kind {
            Kind::Literal(value) => Ok(Operand::Kept(value)),
            Kind::Variable { slot, name } => match self.variables.get_at(*slot, name) {
                Some(value) => Ok(Operand::Kept(value)),
                None => failure(node, format!("the variable `{name}` has no value here")),
            },
            Kind::Local(at) => Ok(self.locals[*at].clone()),
            Kind::Field(target, name) => {
                let held = self.eval(target)?;
                match held.field(name) {
                    Some(value) => Ok(value),
                    None => self.no_field(node, target, name, &held),
                }
            }
            Kind::Has(target, name) => self.has(target, name).map(made),
            Kind::Index(parts) => self.index(node, &parts[0], &parts[1]),
            Kind::Not(part) => Ok(made(!self.truth(part)?)),
            Kind::Negate(part) => self.negate(node, part),
            Kind::And(parts) => self.logic(&parts[0], &parts[1], false).map(made),
            Kind::Or(parts) => self.logic(&parts[0], &parts[1], true).map(made),
            Kind::Conditional(parts) => {
                let chosen = if self.truth(&parts[0])? { &parts[1] } else { &parts[2] };
                self.eval(chosen)
            }
            Kind::Binary(operator, parts) => self.binary(node, *operator, &parts[0], &parts[1]),
            Kind::List(parts) => {
                let elements: Outcome<Vec<_>> =
                    parts.iter().map(|part| Ok(self.eval(part)?.into_value())).collect();
                Ok(Operand::Made(Value::List(elements?.into())))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Call(function, parts) => self.call(node, *function, parts),
            Kind::Matches(part, pattern) => {
                let held = self.eval(part)?;
                match held.as_str() {
                    Some(text) => {
                        self.spend(text.len(), node)?;
                        Ok(made(pattern.is_match(text)))
                    }
                    None => failure(part, format!("text is needed, and this is {}", kind(&held))),
                }
            }
            Kind::Macro(which, comprehension) => self.comprehension(*which, comprehension),
        }
    }

    fn spend(&mut self, steps: usize, node: &Node) -> Outcome<()> {
        match self.budget.spend(steps) {
            Ok(()) => Ok(()),
            Err(message) => failure(node, message),
        }
    }

    fn truth(&mut self, node: &'e Node) -> Outcome<bool> {
        let held = self.eval(node)?;
        match held.as_bool() {
            Some(truth) => Ok(truth),
            None => failure(node, format!("true or false is needed, and this is {}", kind(&held))),
        }
    }

    /// `||` when `decisive` is true, `&&` when it is false. A decisive side decides whatever becomes of the other.
    fn logic(&mut self, left: &'e Node, right: &'e Node, decisive: bool) -> Outcome<bool> {
        match self.truth(left) {
            Ok(truth) if truth == decisive => Ok(decisive),
            Ok(_) => self.truth(right),
            Err(failed) => match self.truth(right) {
                Ok(truth) if truth == decisive => Ok(decisive),
                _ => Err(failed),
            },
        }
    }

    fn has(&mut self, target: &'e Node, name: &str) -> Outcome<bool> {
        let held = self.eval(target)?;
        match &*held {
            Value::Map(map) => Ok(map.get(name).is_some()),
            Value::Object(object) => Ok(object.field(name).is_some()),
            other => failure(target, format!("this is {}, which has no fields", kind(other))),
        }
    }

    #[cold]
    fn no_field(&self, node: &Node, target: &Node, name: &str, held: &Value<'_>) -> Outcome<Operand<'e>> {
        let place = &self.source[target.range.clone()];
        let message = match held {
            Value::Map(map) => {
                let known = suggest(name, map.iter().map(|(key, _)| key));
                format!("there is no field `{name}` in `{place}`{known}")
            }
            Value::Object(object) => {
                let known = suggest(name, fields(*object).map(|(known, _)| known));
                format!("there is no field `{name}` in `{place}`{known}")
            }
            Value::Null => {
                format!("`{place}` is null, so it has no field `{name}`; guard with `{place} != null &&`")
            }
            other => format!("`{place}` is {}, which has no fields", kind(other)),
        };
        failure(node, message)
    }

    fn index(&mut self, node: &'e Node, target: &'e Node, index: &'e Node) -> Outcome<Operand<'e>> {
        let held = self.eval(target)?;
        let by = self.eval(index)?;
        match (&*held, &*by) {
            (Value::List(elements), Value::Number(number)) => {
                let at = Some(number).filter(|number| number.is_integer()).and_then(Decimal::to_usize);
                match at.and_then(|at| held.element(at)) {
                    Some(element) => Ok(element),
                    None => {
                        failure(node, format!("there is no element {number} in a list of {}", elements.len()))
                    }
                }
            }
            (Value::Map(_) | Value::Object(_), Value::Text(name)) => match held.field(name) {
                Some(value) => Ok(value),
                None => self.no_field(node, target, name, &held),
            },
            (Value::List(_), other) => {
                failure(index, format!("lists are indexed by number, and this is {}", kind(other)))
            }
            (Value::Map(_) | Value::Object(_), other) => {
                failure(index, format!("the keys of a map are text, and this is {}", kind(other)))
            }
            (other, _) => {
                failure(target, format!("only lists and maps are indexed, and this is {}", kind(other)))
            }
        }
    }

    fn negate(&mut self, node: &'e Node, part: &'e Node) -> Outcome<Operand<'e>> {
        match &*self.eval(part)? {
            Value::Number(value) => Ok(Operand::Made(number::value(-*value))),
            Value::Duration(duration) => match duration.checked_neg() {
                Some(negated) => Ok(made(negated)),
                None => failure(node, "the result is too long a time"),
            },
            other => failure(part, format!("a number or duration is needed, and this is {}", kind(other))),
        }
    }

    fn binary(
        &mut self,
        node: &Node,
        operator: Operator,
        left: &'e Node,
        right: &'e Node,
    ) -> Outcome<Operand<'e>> {
        let left = self.eval(left)?;
        let right = self.eval(right)?;
        match operators::apply(operator, &left, &right, &mut self.budget) {
            Ok(value) => Ok(Operand::Made(value)),
            Err(message) => failure(node, message),
        }
    }

    fn map(&mut self, entries: &'e [(Node, Node)]) -> Outcome<Operand<'e>> {
        let mut built: Vec<(Cow<'e, str>, Value<'e>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            match self.eval(key)?.into_value() {
                Value::Text(name) if built.iter().any(|(known, _)| *known == name) => {
                    return failure(key, format!("the key `{name}` is there twice"));
                }
                Value::Text(name) => built.push((name, self.eval(value)?.into_value())),
                other => {
                    return failure(key, format!("the keys of a map are text, and this is {}", kind(&other)));
                }
            }
        }
        Ok(Operand::Made(Value::Map(built.into())))
    }

    fn call(&mut self, node: &'e Node, function: Function, parts: &'e [Node]) -> Outcome<Operand<'e>> {
        let mut few = [Value::Null, Value::Null, Value::Null, Value::Null];
        let mut many = Vec::new();
        let arguments = if let Some(few) = few.get_mut(..parts.len()) {
            few
        } else {
            many.resize(parts.len(), Value::Null);
            &mut many[..]
        };
        for (argument, part) in arguments.iter_mut().zip(parts) {
            *argument = self.eval(part)?.into_value();
        }
        match functions::call(function, arguments, &mut self.budget) {
            Ok(value) => Ok(Operand::Made(value)),
            Err(message) => failure(node, message),
        }
    }

    fn comprehension(&mut self, which: Macro, parts: &'e Comprehension) -> Outcome<Operand<'e>> {
        let held = self.eval(&parts.range)?;
        let name = kind(&held);
        let Some(elements) = held.elements() else {
            return failure(&parts.range, format!("a list or map is needed, and this is {name}"));
        };
        let (mut found, mut undecided, mut kept) = (0_usize, None, Vec::new());
        let mut at = 0;
        while let Some(element) = elements.element(at) {
            at += 1;
            self.spend(TURN_STEPS, &parts.body)?;
            self.locals.push(element);
            let turn = self.turn(which, parts);
            let element = self.locals.pop();
            match turn {
                Ok(Turn::Truth(truth)) => match which {
                    Macro::All if !truth => return Ok(made(false)),
                    Macro::Exists if truth => return Ok(made(true)),
                    Macro::ExistsOne if truth => found += 1,
                    Macro::Filter if truth => kept.extend(element.map(Operand::into_value)),
                    _ => {}
                },
                Ok(Turn::Value(value)) => kept.push(value),
                // As with `&&` and `||`, a decisive element decides whatever becomes of the others.
                Err(failed) if matches!(which, Macro::All | Macro::Exists) => {
                    undecided = undecided.or(Some(failed));
                }
                Err(failed) => return Err(failed),
            }
        }
        match (which, undecided) {
            (_, Some(failed)) => Err(failed),
            (Macro::All, None) => Ok(made(true)),
            (Macro::Exists, None) => Ok(made(false)),
            (Macro::ExistsOne, None) => Ok(made(found == 1)),
            (Macro::Filter | Macro::Map, None) => Ok(Operand::Made(Value::List(kept.into()))),
        }
    }

    fn turn(&mut self, which: Macro, parts: &'e Comprehension) -> Outcome<Turn<'e>> {
        match (which, &parts.then) {
            (Macro::Map, None) => Ok(Turn::Value(self.eval(&parts.body)?.into_value())),
            (Macro::Map, Some(then)) if self.truth(&parts.body)? => {
                Ok(Turn::Value(self.eval(then)?.into_value()))
            }
            (Macro::Map, Some(_)) => Ok(Turn::Truth(false)),
            _ => Ok(Turn::Truth(self.truth(&parts.body)?)),
        }
    }
}

/// What a macro's body gave for one element.
enum Turn<'e> {
    Truth(bool),
    Value(Value<'e>),
}

fn kind(value: &Value<'_>) -> String {
    with_article(value.type_name())
}
