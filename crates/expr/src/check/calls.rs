//! Functions and macros.

use std::ops::Range;

use cel::common::ast::{CallExpr, Expr};
use cel::parser::Expression as Tree;

use super::{Checker, Typed};
use crate::fault::suggest;
use crate::functions::{Function, Signature, pattern, with_article};
use crate::tree::{Comprehension, Kind, Macro, Node};
use crate::types::Type;
use crate::value::Value;

const MACROS: [(&str, Macro, &str); 6] = [
    ("all", Macro::All, "list.all(x, condition of x)"),
    ("exists", Macro::Exists, "list.exists(x, condition of x)"),
    ("exists_one", Macro::ExistsOne, "list.exists_one(x, condition of x)"),
    ("existsOne", Macro::ExistsOne, "list.existsOne(x, condition of x)"),
    ("filter", Macro::Filter, "list.filter(x, condition of x)"),
    ("map", Macro::Map, "list.map(x, value of x) or list.map(x, condition of x, value of x)"),
];

impl Checker<'_> {
    pub(super) fn named_call(&mut self, id: u64, call: &CallExpr) -> Typed {
        let bracket = self.token(id).start;
        let name = self.name_before(bracket, &call.func_name);
        let end = self.brackets.after_closing(bracket).unwrap_or(self.source.len());
        match (&call.target, call.args.as_slice()) {
            (None, [argument]) if call.func_name == "has" => return self.has(name.start..end, argument),
            (None, _) if call.func_name == "has" => {
                return self.faulty(name, "`has` takes one field, as in has(event.data.amount)");
            }
            (Some(target), _) => {
                if let Some((_, which, usage)) = MACROS.iter().find(|(known, ..)| *known == call.func_name) {
                    return self.comprehension(*which, usage, &name, end, target, &call.args);
                }
            }
            _ => {}
        }
        self.function(call, &name, end)
    }

    /// Where the name of a call is written, whose bracket opens at `bracket`.
    fn name_before(&self, bracket: usize, name: &str) -> Range<usize> {
        let name = name.strip_prefix('.').unwrap_or(name);
        let end = self.source[..bracket].trim_end().len();
        match end.checked_sub(name.len()) {
            Some(start) if self.source.get(start..end) == Some(name) => start..end,
            _ => bracket..bracket + 1,
        }
    }

    fn has(&mut self, range: Range<usize>, argument: &Tree) -> Typed {
        let Typed { node, .. } = self.lower(argument);
        match node.kind {
            Kind::Field(target, field) => {
                Typed { node: Node { kind: Kind::Has(target, field), range }, known: Type::Bool }
            }
            // Whatever else is wrong with the argument has been said.
            Kind::Literal(Value::Null) if !self.faults.is_empty() => Typed { node, known: Type::Bool },
            _ => self.faulty(node.range, "`has` takes a field, as in has(event.data.amount)"),
        }
    }

    fn function(&mut self, call: &CallExpr, name: &Range<usize>, end: usize) -> Typed {
        let arguments: Vec<Typed> = call
            .target
            .iter()
            .map(|target| &**target)
            .chain(&call.args)
            .map(|argument| self.lower(argument))
            .collect();
        let start = if call.target.is_some() { arguments[0].node.range.start } else { name.start };
        let range = self.brackets.around(start..end);
        let written = call.func_name.strip_prefix('.').unwrap_or(&call.func_name);
        let Some(signature) = Signature::of(written) else {
            let known = Signature::names().chain(MACROS.iter().map(|(name, ..)| *name)).chain(["has"]);
            let suggestion = suggest(written, known);
            let suggestion = if suggestion.contains("did you mean") { suggestion } else { String::new() };
            let mut faulty = self.faulty(name.clone(), format!("unknown function `{written}`{suggestion}"));
            faulty.node.range = range;
            return faulty;
        };
        let types: Vec<Type> = arguments.iter().map(|argument| argument.known.clone()).collect();
        if !signature.takes(call.target.is_some(), arguments.len()) {
            let mut faulty =
                self.faulty(name.clone(), format!("`{written}` is called as {}", signature.usage));
            (faulty.node.range, faulty.known) = (range, signature.result(&types));
            return faulty;
        }
        if let Some(refused) = signature.refused(&types) {
            let wanted = with_article(&signature.takes_text(refused));
            let found = with_article(&types[refused].to_string());
            let place = arguments[refused].node.range.clone();
            let message = format!(
                "`{written}` takes {wanted} here, and this is {found}; it is called as {}",
                signature.usage
            );
            let mut faulty = self.faulty(place, message);
            (faulty.node.range, faulty.known) = (range, signature.result(&types));
            return faulty;
        }
        let known = signature.result(&types);
        let mut parts: Vec<Node> = arguments.into_iter().map(|argument| argument.node).collect();
        if let (Function::Matches, [_, by]) = (signature.function, parts.as_slice())
            && let Some(Value::Text(written)) = by.literal()
        {
            return match pattern(written) {
                Ok(compiled) => {
                    let kind = Kind::Matches(Box::new(parts.swap_remove(0)), compiled);
                    Typed { node: Node { kind, range }, known }
                }
                Err(message) => self.faulty(by.range.clone(), message),
            };
        }
        self.folded(Kind::Call(signature.function, parts), range, known)
    }

    fn comprehension(
        &mut self,
        which: Macro,
        usage: &str,
        name: &Range<usize>,
        end: usize,
        target: &Tree,
        arguments: &[Tree],
    ) -> Typed {
        let target = self.lower(target);
        let range = self.brackets.around(target.node.range.start..end);
        let (variable, body, then) = match arguments {
            [variable, body] => (variable, body, None),
            [variable, condition, then] if which == Macro::Map => (variable, condition, Some(then)),
            _ => return self.faulty(name.clone(), format!("it is called as {usage}")),
        };
        let Expr::Ident(variable) = &variable.expr else {
            let place = self.token(variable.id);
            return self
                .faulty(place, format!("a name for the element is needed here; it is called as {usage}"));
        };
        let (element, list) = match target.known.non_null() {
            Type::Any => (Type::Any, Type::list(Type::Any)),
            Type::List(element) => ((**element).clone(), target.known.non_null().clone()),
            Type::Map(_) | Type::Object(_) => (Type::Text, Type::list(Type::Text)),
            other => {
                let message =
                    format!("a list or map is needed, and this is {}", with_article(&other.to_string()));
                self.fault(&target.node.range, message);
                (Type::Any, Type::list(Type::Any))
            }
        };
        self.locals.push((variable.clone(), element));
        let (body, then, known) = match (which, then) {
            (Macro::Map, None) => {
                let body = self.lower(body);
                (body.node, None, Type::list(body.known))
            }
            (_, Some(then)) => {
                let condition = self.truth(body);
                let then = self.lower(then);
                (condition, Some(then.node), Type::list(then.known))
            }
            (Macro::Filter, None) => (self.truth(body), None, list),
            (_, None) => (self.truth(body), None, Type::Bool),
        };
        self.locals.pop();
        let kind = Kind::Macro(which, Box::new(Comprehension { range: target.node, body, then }));
        Typed { node: Node { kind, range }, known }
    }
}
