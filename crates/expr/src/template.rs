//! Text with expressions in it.

use crate::expression::{EvaluationError, Expression};
use crate::fault::Fault;
use crate::scope::{Scope, Variables};

/// A text with `${expression}` in it, compiled and checked: `payment-${order.order_id}`.
///
/// `$${` stands for the characters `${`; a `$` before anything else is itself.
#[derive(Debug)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Expression(Expression),
}

impl Template {
    /// Compiles and checks a template.
    ///
    /// # Errors
    /// All faults of all its expressions, with their places in the template.
    pub fn compile(source: &str, scope: &Scope) -> Result<Template, Vec<Fault>> {
        let _ = (source, scope);
        todo!("the template reader")
    }

    /// The text that it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its expressions, in order.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Expression(expression) => Some(expression),
        })
    }

    /// The text with the values in place: scalars as [`Value::to_text`](crate::Value::to_text) writes them.
    ///
    /// # Errors
    /// An expression's own, or that its value is null, a list or a map, which have no text.
    pub fn render<'a>(&'a self, variables: &'a Variables<'a>) -> Result<String, EvaluationError> {
        let _ = variables;
        todo!("rendering")
    }

    /// As [`Template::render`], for a URL: the values are percent-encoded, all but letters, digits and `-._~`; the text
    /// around them is not.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_url<'a>(&'a self, variables: &'a Variables<'a>) -> Result<String, EvaluationError> {
        let _ = variables;
        todo!("rendering")
    }
}
