//! From the parser's tree to the compiled form, checking on the way.
//!
//! The checker goes on after a fault with a part of unknown type, so that one mistake is said once and hides no other.

use std::ops::Range;

use cel::common::ast::{
    CallExpr, EntryExpr, Expr, IdedEntryExpr, LiteralValue, SelectExpr, SourceInfo, operators as names,
};
use cel::parser::Expression as Tree;
use rust_decimal::Decimal;

use crate::decimal;
use crate::evaluate::evaluate;
use crate::fault::{Fault, suggest};
use crate::functions::with_article;
use crate::parse::parse;
use crate::scope::{Scope, Variables};
use crate::source::Brackets;
use crate::tree::{Kind, Node, Operator};
use crate::types::Type;
use crate::value::Value;

mod calls;
mod types;

/// How deep the compiled form may be; evaluation descends once for each level.
const MAX_DEPTH: usize = 200;

/// The names of types, and what `type()` gives for values of them.
const TYPE_NAMES: [(&str, &str); 11] = [
    ("null_type", "null_type"),
    ("bool", "bool"),
    ("int", "number"),
    ("uint", "number"),
    ("double", "number"),
    ("number", "number"),
    ("string", "string"),
    ("timestamp", "timestamp"),
    ("duration", "duration"),
    ("list", "list"),
    ("map", "map"),
];

/// Parses and checks `source`; the result must be able to be a `wanted`.
pub(crate) fn compile(source: &str, scope: &Scope, wanted: &Type) -> Result<(Node, Type), Vec<Fault>> {
    parse(source, |tree, places| {
        let brackets = Brackets::of(source);
        let mut checker =
            Checker { source, scope, places, brackets, faults: Vec::new(), locals: Vec::new(), depth: 0 };
        let Typed { node, known } = checker.lower(tree);
        if !known.could_be(wanted) {
            let remedy = types::remedy(&known, wanted);
            let (known, wanted) = (with_article(&known.to_string()), with_article(&wanted.to_string()));
            checker.fault(&node.range, format!("the result must be {wanted}, and this is {known}{remedy}"));
        }
        let mut faults = checker.faults;
        if faults.is_empty() {
            return Ok((node, known));
        }
        faults.sort_by_key(|fault| fault.range.start);
        faults.dedup();
        Err(faults)
    })
}

/// A compiled part and what is known of its value.
struct Typed {
    node: Node,
    known: Type,
}

struct Checker<'c> {
    source: &'c str,
    scope: &'c Scope,
    places: &'c SourceInfo,
    brackets: Brackets,
    faults: Vec<Fault>,
    /// The variables of the macros around, from the outermost.
    locals: Vec<(String, Type)>,
    depth: usize,
}

impl Checker<'_> {
    fn fault(&mut self, range: &Range<usize>, message: impl Into<String>) {
        self.faults.push(Fault::new(self.source, range.clone(), message));
    }

    /// What stands for a part that has a fault: nothing is known of it, so nothing else is wrong with it.
    fn faulty(&mut self, range: Range<usize>, message: impl Into<String>) -> Typed {
        self.fault(&range, message);
        Typed { node: Node { kind: Kind::Literal(Value::Null), range }, known: Type::Any }
    }

    /// The token of a node: for an operator its sign, for a selection its point, for a call its opening bracket.
    fn token(&self, id: u64) -> Range<usize> {
        let Some((start, last)) = self.places.offset_for(id) else { return 0..self.source.len() };
        let (start, last) = (start as usize, last as usize);
        // The end is given as the offset of the last character.
        let last_length =
            self.source.get(last..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        start..(last + last_length).max(start)
    }

    fn lower(&mut self, tree: &Tree) -> Typed {
        if self.depth == MAX_DEPTH {
            let message =
                format!("operators and fields are chained or nested deeper than {MAX_DEPTH}; split it up");
            let token = self.token(tree.id);
            return self.faulty(token, message);
        }
        self.depth += 1;
        let typed = match &tree.expr {
            Expr::Literal(literal) => self.literal(tree.id, literal),
            Expr::Ident(name) => self.name(tree.id, name),
            Expr::Select(select) => self.select(tree.id, select),
            Expr::Call(call) => self.call(tree.id, call),
            Expr::List(list) => self.list(tree.id, &list.elements),
            Expr::Map(map) => self.map(tree.id, &map.entries),
            Expr::Struct(message) => {
                let range = self.token(tree.id);
                let message = format!(
                    "there are no messages such as `{}`; a map is written {{'key': value}}",
                    message.type_name
                );
                self.faulty(range, message)
            }
            Expr::Comprehension(_) | Expr::Unspecified => {
                let range = self.token(tree.id);
                self.faulty(range, "this is not an expression")
            }
        };
        self.depth -= 1;
        typed
    }

    fn literal(&mut self, id: u64, literal: &LiteralValue) -> Typed {
        let range = self.token(id);
        let (value, known) = match literal {
            LiteralValue::Null => (Value::Null, Type::Null),
            LiteralValue::Boolean(value) => (Value::Bool(*value.inner()), Type::Bool),
            LiteralValue::String(text) => (Value::from(text.inner().to_owned()), Type::Text),
            LiteralValue::Int(value) => return self.number(range, *value.inner() < 0),
            LiteralValue::UInt(_) => return self.number(range, false),
            LiteralValue::Double(value) => return self.number(range, value.inner().is_sign_negative()),
            LiteralValue::Bytes(_) => {
                return self.faulty(range, "there are no bytes here; leave out the `b` before the quote");
            }
        };
        Typed { node: Node { kind: Kind::Literal(value), range }, known }
    }

    /// A number is read again from the source, as the parser made a float or an integer of 64 bits of it.
    fn number(&mut self, range: Range<usize>, negative: bool) -> Typed {
        let written = &self.source[range.clone()];
        let digits = written.trim_end_matches(['u', 'U']);
        let value = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(digits) => u64::from_str_radix(digits, 16).ok().map(Decimal::from),
            // `.5` is a literal of CEL, and not one of JSON.
            None if digits.starts_with('.') => decimal::parse(&format!("0{digits}")),
            None => decimal::parse(digits),
        };
        match value {
            Some(value) if negative => self.number_literal(range, -value),
            Some(value) => self.number_literal(range, value),
            None => {
                let message = format!(
                    "the number {written} does not fit in 28 digits, at most 28 of them after the point"
                );
                self.faulty(range, message)
            }
        }
    }

    fn number_literal(&self, mut range: Range<usize>, value: Decimal) -> Typed {
        if value.is_sign_negative() {
            // The sign belongs to the literal, and stands right before it or before spaces.
            range.start = self.source[..range.start].rfind('-').unwrap_or(range.start);
        }
        let kind = Kind::Literal(crate::functions::number::value(value));
        Typed { node: Node { kind, range }, known: Type::Number }
    }

    fn name(&mut self, id: u64, written: &str) -> Typed {
        let range = self.token(id);
        let name = written.strip_prefix('.').unwrap_or(written);
        if let Some(at) = self.locals.iter().rposition(|(known, _)| known == written) {
            return Typed { node: Node { kind: Kind::Local(at), range }, known: self.locals[at].1.clone() };
        }
        if let (Some(slot), Some(known)) = (self.scope.position(name), self.scope.get(name)) {
            let kind = Kind::Variable { slot, name: name.into() };
            return Typed { node: Node { kind, range }, known: known.clone() };
        }
        if let Some((_, gives)) = TYPE_NAMES.iter().find(|(known, _)| *known == name) {
            return Typed {
                node: Node { kind: Kind::Literal(Value::from(*gives)), range },
                known: Type::Text,
            };
        }
        let known = self.locals.iter().map(|(name, _)| name.as_str()).chain(self.scope.names());
        let mut message = format!("unknown variable `{name}`{}", suggest(name, known));
        if !message.contains("did you mean") {
            message = format!("{message}; a text is written in quotes: '{name}'");
        }
        self.faulty(range, message)
    }

    fn select(&mut self, id: u64, select: &SelectExpr) -> Typed {
        let target = self.lower(&select.operand);
        let point = self.token(id);
        let after = &self.source[point.end..];
        let start = point.end + (after.len() - after.trim_start().len());
        let quotes = if self.source[start..].starts_with('`') { 2 } else { 0 };
        let name = start..(start + select.field.len() + quotes).min(self.source.len());
        let field = self.scope.field_name(&select.field);
        self.field(target, &field, &name)
    }

    /// The field `name`, which is written at `place`.
    fn field(&mut self, target: Typed, name: &str, place: &Range<usize>) -> Typed {
        let range = self.brackets.around(target.node.range.start..place.end);
        let known = match target.known.non_null() {
            Type::Any => Type::Any,
            Type::Map(value) => (**value).clone(),
            Type::Object(object) => match object.fields.get(name) {
                Some(known) => known.clone(),
                None if object.open => Type::Any,
                None => {
                    let of = &self.source[target.node.range.clone()];
                    let known = suggest(name, object.fields.keys().map(String::as_str));
                    let message = format!("`{of}` has no field `{name}`{known}");
                    self.fault(place, message);
                    Type::Any
                }
            },
            other => {
                let of = &self.source[target.node.range.clone()];
                let message = format!("`{of}` is {}, which has no fields", with_article(&other.to_string()));
                self.fault(place, message);
                Type::Any
            }
        };
        Typed { node: Node { kind: Kind::Field(Box::new(target.node), name.into()), range }, known }
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Typed {
        match (call.func_name.as_str(), call.args.as_slice()) {
            (names::CONDITIONAL, [condition, yes, no]) => self.conditional(condition, yes, no),
            (name @ (names::LOGICAL_AND | names::LOGICAL_OR), [left, right]) => {
                let (left, right) = (self.truth(left), self.truth(right));
                let range = self.spanning(&left.range, &right.range);
                let parts = Box::new([left, right]);
                let kind = if name == names::LOGICAL_AND { Kind::And(parts) } else { Kind::Or(parts) };
                Typed { node: Node { kind, range }, known: Type::Bool }
            }
            (names::LOGICAL_NOT, [part]) => {
                let part = self.truth(part);
                let range = self.spanning(&self.token(id), &part.range);
                self.folded(Kind::Not(Box::new(part)), range, Type::Bool)
            }
            (names::NEGATE, [part]) => self.negate(id, part),
            (names::INDEX, [target, index]) => self.index(id, target, index),
            (name, [left, right]) if Operator::of(name).is_some() => {
                let (left, right) = (self.lower(left), self.lower(right));
                let operator = Operator::of(name).expect("the guard has seen it");
                self.binary(operator, left, right)
            }
            _ => self.named_call(id, call),
        }
    }

    fn spanning(&self, first: &Range<usize>, last: &Range<usize>) -> Range<usize> {
        self.brackets.around(first.start.min(last.start)..last.end.max(first.end))
    }

    /// A part that must be true or false.
    fn truth(&mut self, tree: &Tree) -> Node {
        let Typed { node, known } = self.lower(tree);
        if !known.could_be(&Type::Bool) {
            let message =
                format!("true or false is needed, and this is {}", with_article(&known.to_string()));
            self.fault(&node.range, message);
        }
        node
    }

    fn conditional(&mut self, condition: &Tree, yes: &Tree, no: &Tree) -> Typed {
        let condition = self.truth(condition);
        let (yes, no) = (self.lower(yes), self.lower(no));
        let range = self.spanning(&condition.range, &no.node.range);
        let known = yes.known.join(&no.known);
        let kind = Kind::Conditional(Box::new([condition, yes.node, no.node]));
        Typed { node: Node { kind, range }, known }
    }

    fn negate(&mut self, id: u64, part: &Tree) -> Typed {
        let Typed { node, known } = self.lower(part);
        let range = self.spanning(&self.token(id), &node.range);
        let known = match known.non_null() {
            Type::Any => Type::Any,
            known @ (Type::Number | Type::Duration) => known.clone(),
            other => {
                let message = format!(
                    "`-` takes a number or duration, and this is {}",
                    with_article(&other.to_string())
                );
                return self.faulty(range, message);
            }
        };
        self.folded(Kind::Negate(Box::new(node)), range, known)
    }

    fn index(&mut self, id: u64, target: &Tree, index: &Tree) -> Typed {
        let target = self.lower(target);
        let index = self.lower(index);
        let bracket = self.token(id).start;
        let end = self.brackets.after_closing(bracket).unwrap_or(index.node.range.end);
        let list = matches!(target.known.non_null(), Type::List(_));
        if let (Some(Value::Text(name)), false) = (index.node.literal(), list) {
            let mut field = self.field(target, name, &index.node.range);
            field.node.range = self.brackets.around(field.node.range.start..end);
            return field;
        }
        let (wanted, known) = match target.known.non_null() {
            Type::Any => (Type::Any, Type::Any),
            Type::List(element) => (Type::Number, (**element).clone()),
            Type::Map(value) => (Type::Text, (**value).clone()),
            Type::Object(_) => (Type::Text, Type::Any),
            other => {
                let message = format!(
                    "only lists and maps are indexed, and this is {}",
                    with_article(&other.to_string())
                );
                return self.faulty(target.node.range, message);
            }
        };
        if !index.known.could_be(&wanted) {
            let (of, found) =
                (with_article(&target.known.non_null().to_string()), with_article(&index.known.to_string()));
            self.fault(&index.node.range, format!("{of} is indexed by {wanted}, and this is {found}"));
        }
        let range = self.brackets.around(target.node.range.start..end);
        self.folded(Kind::Index(Box::new([target.node, index.node])), range, known)
    }

    fn binary(&mut self, operator: Operator, left: Typed, right: Typed) -> Typed {
        let range = self.spanning(&left.node.range, &right.node.range);
        match types::of_binary(operator, &left.known, &right.known) {
            Ok(known) => self.folded(Kind::Binary(operator, Box::new([left.node, right.node])), range, known),
            Err(message) => {
                let mut faulty = self.faulty(range, message);
                faulty.known = types::of_faulty(operator);
                faulty
            }
        }
    }

    fn list(&mut self, id: u64, elements: &[Tree]) -> Typed {
        let elements: Vec<Typed> = elements.iter().map(|element| self.lower(element)).collect();
        let known =
            elements.iter().map(|element| element.known.clone()).reduce(|known, next| known.join(&next));
        let kind = Kind::List(elements.into_iter().map(|element| element.node).collect());
        let range = self.bracketed(id);
        self.folded(kind, range, Type::list(known.unwrap_or(Type::Any)))
    }

    fn map(&mut self, id: u64, entries: &[IdedEntryExpr]) -> Typed {
        let mut lowered: Vec<(Node, Node)> = Vec::with_capacity(entries.len());
        let mut fields = Some(Vec::new());
        for entry in entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let (key, value) = (self.lower(&entry.key), self.lower(&entry.value));
            if !key.known.could_be(&Type::Text) {
                let message = format!(
                    "the keys of a map are text, and this is {}",
                    with_article(&key.known.to_string())
                );
                self.fault(&key.node.range, message);
            }
            match key.node.literal() {
                Some(Value::Text(name))
                    if lowered.iter().any(|(known, _)| known.literal() == key.node.literal()) =>
                {
                    let message = format!("the key `{name}` is there twice");
                    self.fault(&key.node.range, message);
                }
                Some(Value::Text(name)) => {
                    if let Some(fields) = &mut fields {
                        fields.push((name.to_string(), value.known.clone()));
                    }
                }
                _ => fields = None,
            }
            lowered.push((key.node, value.node));
        }
        let known = fields.map_or(Type::map(Type::Any), Type::object);
        let range = self.bracketed(id);
        self.folded(Kind::Map(lowered), range, known)
    }

    /// The range of a node whose token is an opening bracket.
    fn bracketed(&self, id: u64) -> Range<usize> {
        let token = self.token(id);
        token.start..self.brackets.after_closing(token.start).unwrap_or(token.end)
    }

    /// The node, or its value when all of its parts are literals. That an operation on literals fails is a fault.
    fn folded(&mut self, kind: Kind, range: Range<usize>, known: Type) -> Typed {
        let node = Node { kind, range };
        if !node.has_only_literals() {
            return Typed { node, known };
        }
        let outcome = evaluate(&node, self.source, &Variables::new()).map(Value::into_owned);
        match outcome {
            Ok(value) => Typed { node: Node { kind: Kind::Literal(value), range: node.range }, known },
            Err(failure) => {
                if !self.faults.iter().any(|fault| node.range.contains(&fault.range.start)) {
                    self.fault(&failure.range, failure.message);
                }
                let range = node.range;
                Typed { node: Node { kind: Kind::Literal(Value::Null), range }, known: Type::Any }
            }
        }
    }
}
