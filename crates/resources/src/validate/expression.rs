//! Expressions of a resource, as problems of it.

use headwater_expr::{Expression, Fault, Scope, Template, Type};

use crate::fault::{At, Path, Problem};
use crate::shared::{Cel, TemplateText};

/// Compiles the expression at `path`; its faults become problems there.
pub(super) fn compile(
    source: &Cel,
    scope: &Scope,
    path: &Path,
    problems: &mut Vec<Problem>,
) -> Option<Expression> {
    match Expression::compile(source, scope) {
        Ok(expression) => Some(expression),
        Err(faults) => {
            tell(faults, path, problems);
            None
        }
    }
}

/// Compiles the text with expressions at `path`; its faults become problems there.
pub(super) fn template(source: &TemplateText, scope: &Scope, path: &Path, problems: &mut Vec<Problem>) {
    if let Err(faults) = Template::compile(source, scope) {
        tell(faults, path, problems);
    }
}

fn tell(faults: Vec<Fault>, path: &Path, problems: &mut Vec<Problem>) {
    problems.extend(faults.into_iter().map(|fault| {
        let at = At::Text { line: fault.line, column: fault.column };
        Problem { at, ..Problem::new(path.clone(), fault.message, "") }
    }));
}

/// Compiles a condition: its result must be a boolean.
pub(super) fn condition(
    source: &Cel,
    scope: &Scope,
    path: &Path,
    problems: &mut Vec<Problem>,
) -> Option<Expression> {
    let expression = compile(source, scope, path, problems)?;
    if !expression.result().could_be(&Type::Bool) {
        let message = format!("gives {}, but a condition is true or false", expression.result());
        problems.push(Problem::new(
            path.clone(),
            message,
            "compare it with something, for example > 0 or == 'x'",
        ));
    }
    Some(expression)
}

/// What makes a value of type `given` one of `wanted`, where there is something.
pub(super) fn conversion(given: &Type, wanted: &Type, source: &str) -> String {
    let function = match (given.non_null(), wanted.non_null()) {
        (Type::Text, Type::Number) => "decimal",
        (Type::Number | Type::Bool | Type::Timestamp | Type::Duration, Type::Text) => "string",
        (Type::Text, Type::Timestamp) => "timestamp",
        (Type::Text, Type::Bool) => "bool",
        _ => return String::new(),
    };
    format!("convert it: {function}({source})")
}
