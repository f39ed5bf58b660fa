//! Expressions, as callers see them.

use std::ops::Range;

use crate::check;
use crate::evaluate;
use crate::fault::Fault;
use crate::scope::{Scope, Variables};
use crate::tree::Node;
use crate::types::Type;
use crate::value::Value;

/// The longest source of an expression or template.
pub const MAX_SOURCE_BYTES: usize = 4096;

/// An expression, compiled and checked.
///
/// | | |
/// |---|---|
/// | operators | `+ - * / %`, `== != < <= > >=`, `in`, `&& \|\| !`, `c ? a : b`, `a.b`, `a[b]`, `[a, b]`, `{'k': a}` |
/// | presence | `has(a.b)` |
/// | macros over lists and keys of maps | `all`, `exists`, `exists_one` (`existsOne`), `filter`, `map` |
/// | conversions | `bool`, `decimal` (`double`), `int`, `uint`, `string`, `timestamp`, `duration`, `type`, `dyn` |
/// | numbers | `abs`, `ceil`, `floor`, `round(x, digits)` (half away from zero), `min`, `max` |
/// | text | `contains`, `startsWith`, `endsWith`, `matches`, `charAt`, `indexOf`, `lastIndexOf`, `lowerAscii`, `upperAscii`, `trim`, `replace`, `reverse`, `split`, `substring` |
/// | lists | `size` (also of text and maps), `join`, `sum`, `min`, `max`, `isSorted`, `indexOf`, `lastIndexOf` |
/// | time | `getFullYear`, `getMonth`, `getDate`, `getDayOfMonth`, `getDayOfWeek`, `getDayOfYear`, `getHours`, `getMinutes`, `getSeconds`, `getMilliseconds` |
///
/// As CEL has it, `&&`, `||`, `all` and `exists` have a value when one side or element decides, even if another fails.
/// Values of different types are not equal, and have no order. One evaluation does a bounded amount of work.
#[derive(Debug)]
pub struct Expression {
    source: String,
    root: Node,
    result: Type,
    reads: Vec<(String, Vec<String>)>,
}

/// Why an expression has no value for these variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}`: {message}")]
pub struct EvaluationError {
    /// The part of the expression that failed, as it is written.
    pub expression: String,
    /// Where it stands in the source, in bytes.
    pub range: Range<usize>,
    /// Why it failed, and what to do where that is known.
    pub message: String,
}

impl Expression {
    /// Compiles and checks an expression.
    ///
    /// # Errors
    /// All faults that can be found, in the order of the source.
    pub fn compile(source: &str, scope: &Scope) -> Result<Expression, Vec<Fault>> {
        Expression::compile_as(source, scope, &Type::Any)
    }

    /// As [`Expression::compile`], for a place that needs a result of the type `wanted`.
    ///
    /// # Errors
    /// Also when the result can never be of that type.
    pub fn compile_as(source: &str, scope: &Scope, wanted: &Type) -> Result<Expression, Vec<Fault>> {
        let (root, result) = check::compile(source, scope, wanted)?;
        let mut reads = Vec::new();
        root.collect_reads(&mut reads);
        Ok(Expression { source: source.to_owned(), root, result, reads })
    }

    /// The text that it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of its value, as far as it is known.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// Its value, when that depends on nothing.
    pub fn constant(&self) -> Option<&Value<'static>> {
        self.root.literal()
    }

    /// The variables that it reads, each once.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let first = |(at, (name, _)): &(usize, &(String, _))| {
            self.reads[..*at].iter().all(|(known, _)| known != name)
        };
        self.reads.iter().enumerate().filter(first).map(|(_, (name, _))| name.as_str())
    }

    /// Whether it reads the variable.
    pub fn reads(&self, variable: &str) -> bool {
        self.reads.iter().any(|(name, _)| name == variable)
    }

    /// The paths of fields that it reads of the variable, each as far as it is known: `event.data.amount > 0` reads
    /// `["data", "amount"]`. An empty path stands for the whole variable.
    pub fn fields(&self, variable: &str) -> impl Iterator<Item = &[String]> {
        self.reads.iter().filter(move |(name, _)| name == variable).map(|(_, path)| path.as_slice())
    }

    /// Evaluates it. The value borrows from the variables and from the expression.
    ///
    /// # Errors
    /// Names the part that failed and why: a field that is not there, a type that an operator does not take, …
    pub fn evaluate<'a>(&'a self, variables: &'a Variables<'a>) -> Result<Value<'a>, EvaluationError> {
        evaluate::evaluate(&self.root, &self.source, variables).map_err(|failure| EvaluationError {
            expression: self.source[failure.range.clone()].to_owned(),
            range: failure.range,
            message: failure.message,
        })
    }
}
