//! Expressions, as callers see them.

use std::ops::Range;

use crate::fault::Fault;
use crate::scope::{Scope, Variables};
use crate::types::Type;
use crate::value::Value;

/// The longest source of an expression or template.
pub const MAX_SOURCE_BYTES: usize = 4096;

/// An expression, compiled and checked.
#[derive(Debug)]
pub struct Expression {
    source: String,
    result: Type,
}

/// Why an expression has no value for these variables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{expression}`: {message}")]
pub struct EvaluationError {
    /// The part of the expression that failed, as it is written.
    pub expression: String,
    /// Where it stands in the source.
    pub range: Range<usize>,
    /// Why it failed.
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

    /// As [`Expression::compile`], for a place that needs a result of this type.
    ///
    /// # Errors
    /// Also when the result can never be of the type `wanted`.
    pub fn compile_as(source: &str, scope: &Scope, wanted: &Type) -> Result<Expression, Vec<Fault>> {
        let _ = (source, scope, wanted);
        todo!("the checker")
    }

    /// The text that it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of its value, as far as it is known.
    pub fn result(&self) -> &Type {
        &self.result
    }

    /// The variables that it reads.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    /// Whether it reads the variable.
    pub fn reads(&self, variable: &str) -> bool {
        self.variables().any(|name| name == variable)
    }

    /// The paths of fields that it reads of the variable, each as far as it is known: `event.data.amount > 0` reads
    /// `["data", "amount"]`. An empty path stands for the whole variable.
    pub fn fields(&self, variable: &str) -> impl Iterator<Item = &[String]> {
        let _ = variable;
        std::iter::empty()
    }

    /// Evaluates it. The value borrows from the variables and from the expression.
    ///
    /// # Errors
    /// Names the part that failed and why: a field that is not there, a type that an operator does not take, …
    pub fn evaluate<'a>(&'a self, variables: &'a Variables<'a>) -> Result<Value<'a>, EvaluationError> {
        let _ = variables;
        todo!("the evaluator")
    }
}
