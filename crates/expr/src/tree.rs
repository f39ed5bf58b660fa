//! The compiled form of an expression: names resolved, constants folded, patterns compiled.

use std::ops::Range;

use regex::Regex;

use crate::functions::Function;
use crate::value::Value;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    /// What it covers in the source.
    pub(crate) range: Range<usize>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Literal(Value<'static>),
    /// A variable of the scope; the slot is where its value most probably is.
    Variable {
        slot: usize,
        name: Box<str>,
    },
    /// A variable of a macro, by its place among those that are bound, from the outermost.
    Local(usize),
    Field(Box<Node>, Box<str>),
    Has(Box<Node>, Box<str>),
    Index(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Conditional(Box<[Node; 3]>),
    Binary(Operator, Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
    Call(Function, Vec<Node>),
    /// `matches` with a pattern that is known.
    Matches(Box<Node>, Regex),
    Macro(Macro, Box<Comprehension>),
}

#[derive(Debug)]
pub(crate) struct Comprehension {
    pub(crate) range: Node,
    /// Evaluated for each element; for `map` with three arguments the condition.
    pub(crate) body: Node,
    /// The result of `map` with three arguments.
    pub(crate) then: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Macro {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

impl Operator {
    /// By the name that the parser gives it.
    pub(crate) fn of(name: &str) -> Option<Operator> {
        use cel::common::ast::operators as names;
        Some(match name {
            names::ADD => Operator::Add,
            names::SUBSTRACT => Operator::Subtract,
            names::MULTIPLY => Operator::Multiply,
            names::DIVIDE => Operator::Divide,
            names::MODULO => Operator::Remainder,
            names::EQUALS => Operator::Equal,
            names::NOT_EQUALS => Operator::NotEqual,
            names::LESS => Operator::Less,
            names::LESS_EQUALS => Operator::LessEqual,
            names::GREATER => Operator::Greater,
            names::GREATER_EQUALS => Operator::GreaterEqual,
            names::IN => Operator::In,
            _ => return None,
        })
    }

    /// As it is written.
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Remainder => "%",
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
            Operator::Less => "<",
            Operator::LessEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterEqual => ">=",
            Operator::In => "in",
        }
    }
}

impl Node {
    pub(crate) fn literal(&self) -> Option<&Value<'static>> {
        match &self.kind {
            Kind::Literal(value) => Some(value),
            _ => None,
        }
    }

    /// Whether it is an operation on literals alone, of a kind that has a value then.
    pub(crate) fn has_only_literals(&self) -> bool {
        let foldable = matches!(
            self.kind,
            Kind::Not(_)
                | Kind::Negate(_)
                | Kind::Index(_)
                | Kind::Binary(..)
                | Kind::List(_)
                | Kind::Map(_)
                | Kind::Call(..)
        );
        let mut only = foldable;
        if foldable {
            self.for_each_part(&mut |part| only &= part.literal().is_some());
        }
        only
    }

    /// Calls `visit` with each part, in the order of the source.
    fn for_each_part<'n>(&'n self, visit: &mut dyn FnMut(&'n Node)) {
        match &self.kind {
            Kind::Literal(_) | Kind::Variable { .. } | Kind::Local(_) => {}
            Kind::Field(part, _)
            | Kind::Has(part, _)
            | Kind::Not(part)
            | Kind::Negate(part)
            | Kind::Matches(part, _) => {
                visit(part);
            }
            Kind::Index(parts) | Kind::And(parts) | Kind::Or(parts) | Kind::Binary(_, parts) => {
                parts.iter().for_each(visit);
            }
            Kind::Conditional(parts) => parts.iter().for_each(visit),
            Kind::List(parts) | Kind::Call(_, parts) => parts.iter().for_each(visit),
            Kind::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).for_each(visit),
            Kind::Macro(_, comprehension) => {
                visit(&comprehension.range);
                visit(&comprehension.body);
                comprehension.then.iter().for_each(visit);
            }
        }
    }

    /// Adds the variables and the fields of them that are read: `(variable, path)`, each once.
    pub(crate) fn collect_reads(&self, reads: &mut Vec<(String, Vec<String>)>) {
        let mut path = Vec::new();
        let mut at = self;
        while let Kind::Field(part, name) | Kind::Has(part, name) = &at.kind {
            path.push(name.to_string());
            at = part;
        }
        match &at.kind {
            Kind::Variable { name, .. } => {
                path.reverse();
                let read = (name.to_string(), path);
                if !reads.contains(&read) {
                    reads.push(read);
                }
            }
            _ => at.for_each_part(&mut |part| part.collect_reads(reads)),
        }
    }
}
