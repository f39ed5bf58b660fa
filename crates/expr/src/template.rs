//! Text with expressions in it.

use std::borrow::Cow;

use crate::expression::{EvaluationError, Expression, MAX_SOURCE_BYTES};
use crate::fault::Fault;
use crate::functions::with_article;
use crate::scope::{Scope, Variables};
use crate::source::closing_brace;

/// A text with `${expression}` in it, compiled and checked: `payment-${order.order_id}`.
///
/// `$${` stands for the characters `${`; a `$` before anything else is itself.
///
/// ```
/// # use headwater_expr::{Scope, Template, Type, Value, Variables};
/// let template = Template::compile("payment-${order.id}", &Scope::new().with("order", Type::Any)).unwrap();
/// let order = Value::parse_json(br#"{"id": "a/7"}"#).unwrap();
/// let variables = Variables::new().with("order", order);
/// assert_eq!(template.render(&variables).unwrap(), "payment-a/7");
/// assert_eq!(template.render_url(&variables).unwrap(), "payment-a%2F7");
/// ```
#[derive(Debug)]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    /// An expression, and where it begins in the template.
    Expression(usize, Expression),
}

impl Template {
    /// Compiles and checks a template.
    ///
    /// # Errors
    /// All faults of all its expressions, with their places in the template.
    pub fn compile(source: &str, scope: &Scope) -> Result<Template, Vec<Fault>> {
        if source.len() > MAX_SOURCE_BYTES {
            let message = format!(
                "the template has {} bytes, and at most {MAX_SOURCE_BYTES} are allowed",
                source.len()
            );
            return Err(vec![Fault::new(source, MAX_SOURCE_BYTES..source.len(), message)]);
        }
        let (mut parts, mut faults, mut literal) = (Vec::new(), Vec::new(), String::new());
        let mut at = 0;
        while let Some(found) = source[at..].find("${") {
            let dollar = at + found;
            let start = dollar + 2;
            if source[at..dollar].ends_with('$') {
                literal.push_str(&source[at..dollar - 1]);
                literal.push_str("${");
                at = start;
                continue;
            }
            literal.push_str(&source[at..dollar]);
            let Some(end) = closing_brace(source, start) else {
                let message = "this `${` has no `}`; write `$${` for the characters themselves";
                faults.push(Fault::new(source, dollar..start, message));
                at = source.len();
                break;
            };
            match Expression::compile(&source[start..end], scope) {
                Ok(expression) => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    if !expression.result().has_text() {
                        let found = with_article(&expression.result().to_string());
                        let message = format!("{found} has no text; use a field or element of it");
                        faults.push(Fault::new(source, start..end, message));
                    }
                    parts.push(Part::Expression(start, expression));
                }
                Err(found) => faults.extend(found.into_iter().map(|fault| {
                    Fault::new(source, start + fault.range.start..start + fault.range.end, fault.message)
                })),
            }
            at = end + 1;
        }
        literal.push_str(&source[at..]);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if faults.is_empty() { Ok(Template { source: source.to_owned(), parts }) } else { Err(faults) }
    }

    /// The text that it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Its expressions, in order.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Expression(_, expression) => Some(expression),
        })
    }

    /// Whether one of its expressions reads the variable.
    pub fn reads(&self, variable: &str) -> bool {
        self.expressions().any(|expression| expression.reads(variable))
    }

    /// The text with the values in place: scalars as [`Value::to_text`](crate::Value::to_text) writes them.
    ///
    /// # Errors
    /// An expression's own, or that its value is null, a list or a map, which have no text.
    pub fn render<'a>(&'a self, variables: &'a Variables<'a>) -> Result<String, EvaluationError> {
        self.render_with(variables, |value, rendered| rendered.push_str(value))
    }

    /// As [`Template::render`], for a URL: the values are percent-encoded, all but letters, digits and `-._~`; the text
    /// around them is not.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_url<'a>(&'a self, variables: &'a Variables<'a>) -> Result<String, EvaluationError> {
        self.render_with(variables, percent_encode)
    }

    fn render_with<'a>(
        &'a self,
        variables: &'a Variables<'a>,
        put: impl Fn(&str, &mut String),
    ) -> Result<String, EvaluationError> {
        let mut rendered = String::with_capacity(self.source.len());
        for part in &self.parts {
            let (start, expression) = match part {
                Part::Literal(text) => {
                    rendered.push_str(text);
                    continue;
                }
                Part::Expression(start, expression) => (*start, expression),
            };
            let value = expression.evaluate(variables).map_err(|error| EvaluationError {
                range: start + error.range.start..start + error.range.end,
                ..error
            })?;
            let text: Option<Cow<'_, str>> = value.to_text();
            match text {
                Some(text) => put(&text, &mut rendered),
                None => {
                    return Err(EvaluationError {
                        expression: expression.source().trim().to_owned(),
                        range: start..start + expression.source().len(),
                        message: format!("{} has no text", with_article(value.type_name())),
                    });
                }
            }
        }
        Ok(rendered)
    }
}

/// RFC 3986: what is unreserved stays.
fn percent_encode(value: &str, encoded: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}
