//! YAML files as JSON values that know where they were written.

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Value};

use super::plain;
use crate::fault::Path;

/// A resource nested deeper than this is refused.
const MAX_DEPTH: usize = 64;

/// More values than this in one file are refused: aliases multiply.
const MAX_VALUES: usize = 200_000;

/// In a longer line, places within texts are not looked for: characters are counted from its beginning, for each text anew.
const LONGEST_LINE: usize = 8_192;

/// A line and a character in it, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Where a value was written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Its key, or the value itself in a list.
    pub(super) key: Mark,
    /// The value.
    pub(super) value: Mark,
    /// Where a text's first character stands, when all of it stands in one line as it is.
    pub(super) text: Option<Mark>,
}

/// One document of a file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) value: Value,
    /// By JSON pointer.
    pub(super) places: HashMap<String, Place>,
    pub(super) faults: Vec<YamlFault>,
}

/// What is wrong with the YAML itself.
#[derive(Debug)]
pub(super) struct YamlFault {
    pub(super) mark: Mark,
    pub(super) path: Path,
    pub(super) message: String,
    pub(super) remedy: String,
}

/// The documents of a file, as far as it can be read, and why no further.
pub(super) fn read(text: &str) -> (Vec<Document>, Option<YamlFault>) {
    let mut documents = Vec::new();
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        lines: text.lines().collect(),
        anchors: HashMap::new(),
        values: 0,
    };
    loop {
        match reader.document() {
            Ok(Some(document)) => {
                if !document.value.is_null() || !document.faults.is_empty() {
                    documents.push(document);
                }
            }
            Ok(None) => return (documents, None),
            Err(fault) => return (documents, Some(fault)),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    lines: Vec<&'a str>,
    anchors: HashMap<usize, Rc<Node>>,
    values: usize,
}

/// A value as it was written, before its path is known.
#[derive(Debug)]
struct Node {
    mark: Mark,
    text: Option<Mark>,
    /// Values within values, itself included: through aliases, more than are written.
    height: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// With what a reader of YAML 1.1 makes of it, where that differs.
    Scalar(Value, Option<&'static str>),
    List(Vec<Rc<Node>>),
    Map(Vec<(Key, Rc<Node>)>),
}

#[derive(Debug)]
struct Key {
    mark: Mark,
    text: String,
    /// What the key stands for when it is no text, or for a reader of YAML 1.1.
    other: Option<&'static str>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Mark), YamlFault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, mark(span))),
            Some(Err(error)) => Err(YamlFault {
                mark: Mark { line: error.marker().line(), column: error.marker().col() + 1 },
                path: Path::root(),
                message: format!("not YAML: {}", error.info()),
                remedy: "correct the syntax here or just before".to_owned(),
            }),
            None => Ok((Event::StreamEnd, Mark::default())),
        }
    }

    fn document(&mut self) -> Result<Option<Document>, YamlFault> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(None),
                (Event::DocumentStart(_), _) => {
                    self.anchors.clear();
                    let (event, mark) = self.next()?;
                    let node = self.node(event, mark, 0)?;
                    let mut document =
                        Document { value: Value::Null, places: HashMap::new(), faults: Vec::new() };
                    let place = Place { key: node.mark, value: node.mark, text: None };
                    document.value =
                        self.place(&node, &Path::root(), place, &mut document.places, &mut document.faults)?;
                    return Ok(Some(document));
                }
                _ => {}
            }
        }
    }

    fn count(&mut self, mark: Mark) -> Result<(), YamlFault> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(fault(
                mark,
                format!("more than {MAX_VALUES} values in one file"),
                "use fewer aliases, or several files",
            ));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'a>, mark: Mark, depth: usize) -> Result<Rc<Node>, YamlFault> {
        self.count(mark)?;
        if depth > MAX_DEPTH {
            return Err(fault(mark, format!("nested deeper than {MAX_DEPTH}"), "make it flatter"));
        }
        let (anchor, kind, text) = match event {
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().ok_or_else(|| {
                    fault(mark, "an alias of a value that holds it".to_owned(), "write the value out")
                })?;
                if depth + node.height > MAX_DEPTH {
                    let message = format!("nested deeper than {MAX_DEPTH}, with what the alias stands for");
                    return Err(fault(mark, message, "make it flatter"));
                }
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, tag) => {
                let place = self.verbatim(&text, style, mark);
                let (value, other) = scalar(&text, style, tag.as_deref(), mark)?;
                (anchor, Kind::Scalar(value, other), place)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse(tag.as_deref(), "seq", mark)?;
                let mut elements = Vec::new();
                loop {
                    match self.next()? {
                        (Event::SequenceEnd, _) => break,
                        (event, mark) => elements.push(self.node(event, mark, depth + 1)?),
                    }
                }
                (anchor, Kind::List(elements), None)
            }
            Event::MappingStart(anchor, tag) => {
                refuse(tag.as_deref(), "map", mark)?;
                let mut entries = Vec::new();
                loop {
                    match self.next()? {
                        (Event::MappingEnd, _) => break,
                        (event, mark) => {
                            let key = Self::key(event, mark)?;
                            let (event, mark) = self.next()?;
                            entries.push((key, self.node(event, mark, depth + 1)?));
                        }
                    }
                }
                (anchor, Kind::Map(entries), None)
            }
            other => return Err(fault(mark, format!("not YAML: {other:?} where a value is needed"), "")),
        };
        let height = 1 + match &kind {
            Kind::Scalar(..) => 0,
            Kind::List(elements) => elements.iter().map(|element| element.height).max().unwrap_or_default(),
            Kind::Map(entries) => entries.iter().map(|(_, element)| element.height).max().unwrap_or_default(),
        };
        let node = Rc::new(Node { mark, text, height, kind });
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    fn key(event: Event<'a>, mark: Mark) -> Result<Key, YamlFault> {
        match event {
            Event::Scalar(text, style, _, tag) => {
                let (value, other) = scalar(&text, style, tag.as_deref(), mark)?;
                let other = match value {
                    Value::String(_) => other,
                    Value::Null => Some("null"),
                    Value::Bool(_) => Some("a boolean"),
                    _ => Some("a number"),
                };
                Ok(Key { mark, text: text.into_owned(), other })
            }
            _ => Err(fault(mark, "a key that is no text".to_owned(), "write a name, then a colon")),
        }
    }

    /// Where the text's first character stands, when all of it stands in one line as it is.
    fn verbatim(&self, text: &str, style: ScalarStyle, mark: Mark) -> Option<Mark> {
        let quote = match style {
            ScalarStyle::Plain => 0,
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => 1,
            ScalarStyle::Literal | ScalarStyle::Folded => return None,
        };
        let line = self.lines.get(mark.line.checked_sub(1)?)?;
        if line.len() > LONGEST_LINE {
            return None;
        }
        let (start, _) = line.char_indices().nth(mark.column - 1 + quote)?;
        line[start..].starts_with(text).then_some(Mark { line: mark.line, column: mark.column + quote })
    }

    /// The node's JSON value, with the places of all that is in it.
    fn place(
        &mut self,
        node: &Node,
        path: &Path,
        place: Place,
        places: &mut HashMap<String, Place>,
        faults: &mut Vec<YamlFault>,
    ) -> Result<Value, YamlFault> {
        self.count(node.mark)?;
        places.insert(path.pointer(), place);
        Ok(match &node.kind {
            Kind::Scalar(value, other) => {
                if let Some(other) = other {
                    faults.push(differs(node.mark, path.clone(), value.as_str().unwrap_or_default(), other));
                }
                value.clone()
            }
            Kind::List(elements) => {
                let mut list = Vec::with_capacity(elements.len());
                for (index, element) in elements.iter().enumerate() {
                    let place = Place { key: element.mark, value: element.mark, text: element.text };
                    list.push(self.place(element, &path.index(index), place, places, faults)?);
                }
                Value::Array(list)
            }
            Kind::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                let mut marks: HashMap<&str, Mark> = HashMap::with_capacity(entries.len());
                for (key, element) in entries {
                    let path = path.field(&key.text);
                    if let Some(other) = key.other {
                        faults.push(differs(key.mark, path.clone(), &key.text, other));
                    }
                    if let Some(first) = marks.insert(&key.text, key.mark) {
                        faults.push(YamlFault {
                            mark: key.mark,
                            path,
                            message: format!(
                                "\"{}\" stands twice here, first in line {}",
                                key.text, first.line
                            ),
                            remedy: "remove one of them".to_owned(),
                        });
                        continue;
                    }
                    let place = Place { key: key.mark, value: element.mark, text: element.text };
                    let value = self.place(element, &path, place, places, faults)?;
                    map.insert(key.text.clone(), value);
                }
                Value::Object(map)
            }
        })
    }
}

fn mark(span: Span) -> Mark {
    Mark { line: span.start.line(), column: span.start.col() + 1 }
}

fn fault(mark: Mark, message: String, remedy: &str) -> YamlFault {
    YamlFault { mark, path: Path::root(), message, remedy: remedy.to_owned() }
}

fn differs(mark: Mark, path: Path, text: &str, other: &str) -> YamlFault {
    YamlFault {
        mark,
        path,
        message: format!("{text} without quotes is {other} for kubectl and other readers of YAML 1.1"),
        remedy: format!("quote it: \"{text}\""),
    }
}

fn refuse(tag: Option<&Tag>, own: &str, mark: Mark) -> Result<(), YamlFault> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == own) => {
            Err(fault(mark, format!("the tag {tag} is not known"), "leave it out"))
        }
        _ => Ok(()),
    }
}

/// What a scalar stands for, and what a reader of YAML 1.1 makes of it where that differs.
fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    mark: Mark,
) -> Result<(Value, Option<&'static str>), YamlFault> {
    if let Some(tag) = tag {
        refuse(Some(tag), "str", mark)?;
        return Ok((Value::String(text.to_owned()), None));
    }
    if style != ScalarStyle::Plain {
        return Ok((Value::String(text.to_owned()), None));
    }
    Ok(match plain::read_differently(text) {
        Some(other) => (Value::String(text.to_owned()), Some(other)),
        None => (plain::resolve(text), None),
    })
}
