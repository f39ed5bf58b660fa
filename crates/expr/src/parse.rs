//! From text to a syntax tree, by the parser of the crate `cel`, without its macros: they are read as calls.

use cel::Env;
use cel::common::ast::SourceInfo;
use cel::parser::{Expression as Tree, ParseError};

use crate::expression::MAX_SOURCE_BYTES;
use crate::fault::Fault;

/// The parser descends once for each level of brackets.
const MAX_BRACKETS: u16 = 96;

/// Sources up to this length can't be nested so deep as to need more than the stack of any thread.
const SHORT_SOURCE_BYTES: usize = 160;

/// The parser descends for each member of a chain such as `a.b.c` too, some kilobytes at a time, and knows no limit there.
const STACK_BYTES: usize = 64 << 20;

/// Parses `source` and hands the tree to `then`, on a stack that is large enough for every tree.
pub(crate) fn parse<T: Send>(
    source: &str,
    then: impl FnOnce(&Tree, &SourceInfo) -> Result<T, Vec<Fault>> + Send,
) -> Result<T, Vec<Fault>> {
    if source.len() > MAX_SOURCE_BYTES {
        let message = format!(
            "the expression has {} bytes, and at most {MAX_SOURCE_BYTES} are allowed; split it up",
            source.len()
        );
        return Err(vec![Fault::new(source, MAX_SOURCE_BYTES..source.len(), message)]);
    }
    let run = || {
        let (tree, places) = parse_here(source)?;
        then(&tree, &places)
    };
    if source.len() <= SHORT_SOURCE_BYTES {
        return run();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("expression".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, run) {
            Ok(running) => running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Err(vec![Fault::new(
                source,
                0..0,
                format!("no thread could be started to parse it: {error}"),
            )]),
        }
    })
}

fn parse_here(source: &str) -> Result<(Tree, SourceInfo), Vec<Fault>> {
    if source.trim().is_empty() {
        return Err(vec![Fault::new(
            source,
            0..0,
            "the expression is empty; a text is written in quotes: ''",
        )]);
    }
    let parser = Env::default().with_optional_support(false).parser();
    let parser = parser.enable_ident_escape_syntax(true).max_recursion_depth(MAX_BRACKETS);
    parser.parse_with_source_info(source).map_err(|failed| faults(source, &failed.errors))
}

/// The parser goes on after an error in the syntax, but what it finds from there on mostly follows from the first; what
/// is wrong with literals and names stands for itself.
fn faults(source: &str, errors: &[ParseError]) -> Vec<Fault> {
    let (mut faults, mut syntax) = (Vec::new(), false);
    for error in errors {
        let found = offset(source, error.pos);
        let internal =
            ["Incomplete `", "No `", "Unknown `", "error recovery"].iter().any(|p| error.msg.starts_with(p));
        if let Some(problem) = error.msg.strip_prefix("Syntax error: ") {
            if !syntax {
                let length =
                    quoted(problem).filter(|text| source[found..].starts_with(text)).map_or(0, str::len);
                faults.push(Fault::new(source, found..found + length, syntax_message(problem)));
            }
            syntax = true;
        } else if !internal {
            faults.push(Fault::new(source, found..found, literal_message(&error.msg)));
        }
    }
    if faults.is_empty() {
        faults.push(Fault::new(source, 0..0, "this is not an expression"));
    }
    faults
}

/// The byte offset of a line and character from 1.
fn offset(source: &str, (line, column): (isize, isize)) -> usize {
    let lines_before = usize::try_from(line - 1).unwrap_or(0);
    let characters_before = usize::try_from(column - 1).unwrap_or(0);
    let line_start = source.split_inclusive('\n').take(lines_before).map(str::len).sum::<usize>();
    line_start + source[line_start..].chars().take(characters_before).map(char::len_utf8).sum::<usize>()
}

/// The text in the first quotes of a message of the parser.
fn quoted(problem: &str) -> Option<&str> {
    let from = problem.find('\'')? + 1;
    let rest = &problem[from..];
    let to = rest.find("' ").or_else(|| rest.len().checked_sub(1).filter(|_| rest.ends_with('\'')))?;
    Some(&rest[..to])
}

/// The parser's message in words for people who know YAML rather than grammars.
fn syntax_message(problem: &str) -> String {
    if problem.contains("Recursion limit") {
        return format!("nested deeper than {MAX_BRACKETS} brackets or conditions; split it up");
    }
    if let Some(expected) = problem.strip_prefix("missing ") {
        let expected = quoted(expected).unwrap_or(expected);
        return format!("`{expected}` is missing here");
    }
    let text = quoted(problem).unwrap_or_default();
    if problem.starts_with("token recognition error") {
        return match text.trim_end() {
            "=" => "`=` is no operator; compare with `==`".to_owned(),
            "&" => "`&` is no operator; `&&` is and".to_owned(),
            "|" => "`|` is no operator; `||` is or".to_owned(),
            text if text.contains(['\'', '"']) => {
                "the text that begins here has no closing quote in its line, or an unknown escape".to_owned()
            }
            text => format!("`{text}` can't stand in an expression outside of quotes"),
        };
    }
    let expected = match problem.split_once(" expecting ") {
        Some((_, expected)) if expected.starts_with('\'') => {
            format!("; {} is expected", expected.replace('\'', "`"))
        }
        Some((_, "{'}', ','}")) => "; `,` or `}` is expected".to_owned(),
        Some((_, "{']', ','}")) => "; `,` or `]` is expected".to_owned(),
        Some((_, "{')', ','}")) => "; `,` or `)` is expected".to_owned(),
        _ => String::new(),
    };
    match text {
        "<EOF>" => format!("the expression ends too early{expected}"),
        "and" | "AND" => "`and` is written `&&`".to_owned(),
        "or" | "OR" => "`or` is written `||`".to_owned(),
        "not" | "NOT" => "`not` is written `!`".to_owned(),
        text => format!("`{text}` is unexpected here{expected}"),
    }
}

fn literal_message(problem: &str) -> String {
    match problem.split_once(':') {
        None if problem == "invalid int literal" || problem == "invalid uint literal" => {
            "whole numbers beyond 64 bits are written with a point, as in 12345678901234567890.0".to_owned()
        }
        None if problem == "invalid double literal" => "the number is too large".to_owned(),
        Some(("reserved identifier", name)) => {
            format!("`{}` is a reserved word; a text is written in quotes", name.trim())
        }
        Some(("invalid string literal", _)) => {
            "the text has an unknown escape; `\\\\` is a backslash".to_owned()
        }
        _ => problem.to_owned(),
    }
}
