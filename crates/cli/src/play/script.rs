//! The `.http` format: what is in a file, checked whole before anything is sent. `docs/dev.md` describes it.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::answer::Place;
use super::expectation::Expectation;
use super::fault::Fault;
use super::variables::{self, Reference, is_name};

/// The requests of a file, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Script {
    pub(crate) requests: Vec<Request>,
}

/// One request, with its variables still in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    /// Of the request line, from 1.
    pub(crate) line: usize,
    pub(crate) title: String,
    pub(crate) name: Option<String>,
    /// Set before it, in order.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Body>,
    /// All must hold; may have variables in them.
    pub(crate) expectations: Vec<String>,
    pub(crate) within: Option<Duration>,
    pub(crate) captures: Vec<(String, Place)>,
}

/// What a request sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Body {
    Text(String),
    File(PathBuf),
}

impl Request {
    fn new() -> Self {
        Self {
            line: 0,
            title: String::new(),
            name: None,
            variables: Vec::new(),
            method: String::new(),
            url: String::new(),
            headers: Vec::new(),
            body: None,
            expectations: Vec::new(),
            within: None,
            captures: Vec::new(),
        }
    }

    /// How it is called in messages: its title, or else its name; may be empty.
    pub(crate) fn label(&self) -> &str {
        match &self.name {
            Some(name) if self.title.is_empty() => name,
            _ => &self.title,
        }
    }
}

/// Reads a file. `known` are the variables that are set from outside.
///
/// # Errors
/// All faults, in the order of their lines.
pub(crate) fn parse<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Result<Script, Vec<Fault>> {
    let mut parser = Parser {
        known: known.into_iter().map(str::to_owned).collect(),
        answered: HashSet::new(),
        faults: Vec::new(),
    };
    let mut script = Script::default();
    for block in blocks(text) {
        script.requests.extend(parser.block(&block));
    }
    // A block may be there for its variables alone.
    if script.requests.iter().all(|request| request.method.is_empty()) && parser.faults.is_empty() {
        parser
            .faults
            .push(Fault::new(1, "there is no request; write one such as GET http://127.0.0.1:8080/readyz"));
    }
    parser.faults.sort_by_key(|fault| fault.line);
    if parser.faults.is_empty() { Ok(script) } else { Err(parser.faults) }
}

/// What stands between two `###`.
struct Block<'a> {
    title: &'a str,
    lines: Vec<(usize, &'a str)>,
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = vec![Block { title: "", lines: Vec::new() }];
    for (index, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("###") {
            blocks.push(Block { title: title.trim_start_matches('#').trim(), lines: Vec::new() });
        } else if let Some(block) = blocks.last_mut() {
            block.lines.push((index + 1, line));
        }
    }
    blocks
}

struct Parser {
    known: HashSet<String>,
    answered: HashSet<String>,
    faults: Vec<Fault>,
}

impl Parser {
    /// The request of a block; a block may also have only variables and comments, which then go before the next request.
    fn block(&mut self, block: &Block<'_>) -> Option<Request> {
        let mut request = Request { title: block.title.to_owned(), ..Request::new() };
        let mut lines = block.lines.iter().copied().peekable();
        let mut directives = Vec::new();
        let (line, first) = loop {
            let Some((number, line)) = lines.next() else {
                return self.without_request(&request, &directives);
            };
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            if let Some(comment) = text.strip_prefix('#').or_else(|| text.strip_prefix("//")) {
                if let Some(directive) = directive_of(comment) {
                    directives.push((number, directive));
                }
            } else if let Some(variable) = text.strip_prefix('@') {
                self.variable(number, variable, &mut request);
            } else {
                break (number, text);
            }
        };
        request.line = line;
        let mut url = first.to_owned();
        while let Some((_, more)) =
            lines.next_if(|(_, line)| line.starts_with([' ', '\t']) && !line.trim().is_empty())
        {
            url.push_str(more.trim());
        }
        self.request_line(line, &url, &mut request);
        while let Some((number, header)) = lines.next_if(|(_, line)| !line.trim().is_empty()) {
            self.header(number, header.trim(), &mut request);
        }
        self.body(lines.collect(), &mut request);
        for (number, directive) in directives {
            self.directive(number, directive, &mut request);
        }
        if let Some(name) = &request.name {
            self.answered.insert(name.clone());
        }
        Some(request)
    }

    fn without_request(&mut self, request: &Request, directives: &[(usize, &str)]) -> Option<Request> {
        for (number, directive) in directives {
            self.fault(
                *number,
                format!("@{directive} is for a request, and none follows before the next ###"),
            );
        }
        // Variables before the first ### are for all requests.
        (!request.variables.is_empty()).then(|| request.clone())
    }

    fn variable(&mut self, number: usize, text: &str, request: &mut Request) {
        match text.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
            Some((name, value)) if is_name(name) => {
                self.references(number, value);
                self.known.insert(name.to_owned());
                request.variables.push((name.to_owned(), value.to_owned()));
            }
            _ => self.fault(number, format!("@{text} sets no variable; write @NAME = VALUE")),
        }
    }

    fn request_line(&mut self, number: usize, text: &str, request: &mut Request) {
        self.references(number, text);
        let text = match text.rsplit_once(' ') {
            Some((rest, version)) if version.starts_with("HTTP/") => rest.trim(),
            _ => text,
        };
        let (method, url) = match text.split_once(' ') {
            Some((method, url)) => (method, url.trim()),
            None => ("GET", text),
        };
        if !method.chars().all(|c| c.is_ascii_uppercase()) || url.contains(' ') && !url.contains("{{") {
            self.fault(
                number,
                format!(
                    "{text:?} is no request line; write METHOD URL, for example GET http://127.0.0.1:8080/"
                ),
            );
        } else if !url.starts_with("{{") && !url.starts_with("http://") {
            self.fault(
                number,
                format!("{url:?} is no URL that can be played; begin it with http:// or a variable"),
            );
        }
        (request.method, request.url) = (method.to_owned(), url.to_owned());
    }

    fn header(&mut self, number: usize, text: &str, request: &mut Request) {
        self.references(number, text);
        match text.split_once(':') {
            _ if text.starts_with('#') || text.starts_with("//") => {
                if let Some(directive) = directive_of(text.trim_start_matches('/')) {
                    self.fault(
                        number,
                        format!("@{directive} stands before the request line, and not after it"),
                    );
                }
            }
            Some((name, value)) if http_token(name) => {
                request.headers.push((name.to_owned(), value.trim().to_owned()));
            }
            _ => self.fault(
                number,
                format!("{text:?} is no header; write NAME: VALUE, and an empty line before the body"),
            ),
        }
    }

    fn body(&mut self, lines: Vec<(usize, &str)>, request: &mut Request) {
        let text: Vec<&str> = lines.iter().map(|(_, line)| *line).collect();
        let text = text.join("\n");
        let text = text.trim();
        for (number, line) in lines {
            let start = line.trim_start();
            if start.starts_with("> {%") || start.starts_with("< {%") {
                self.fault(
                    number,
                    "scripts are not run; write # @expect and # @capture before the request line",
                );
                return;
            }
            self.references(number, line);
        }
        if let Some(path) = text.strip_prefix("< ").filter(|path| !path.contains('\n')) {
            request.body = Some(Body::File(path.trim().into()));
        } else if !text.is_empty() {
            request.body = Some(Body::Text(text.to_owned()));
        }
    }

    fn directive(&mut self, number: usize, text: &str, request: &mut Request) {
        let (name, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let value = value.trim();
        match name {
            "name" if is_name(value) => request.name = Some(value.to_owned()),
            "name" => self.fault(number, format!("{value:?} is no name; it has letters, digits, - and _")),
            "expect" => {
                self.references(number, value);
                // With a variable in it, it is read once the variable has its value.
                if let (false, Err(message)) = (value.contains("{{"), Expectation::parse(value)) {
                    self.fault(number, format!("@expect {value}: {message}"));
                }
                request.expectations.push(value.to_owned());
            }
            "within" => match duration(value) {
                Some(within) => request.within = Some(within),
                None => {
                    self.fault(number, format!("{value:?} is no time; write for example 500ms, 10s or 2m"));
                }
            },
            "capture" => {
                let capture = value.split_once('=').map(|(name, place)| (name.trim(), place.trim()));
                match capture.map(|(name, place)| (name, Place::parse(place))) {
                    Some((name, Ok((place, "")))) if is_name(name) => {
                        self.known.insert(name.to_owned());
                        request.captures.push((name.to_owned(), place));
                    }
                    Some((_, Err(message))) => self.fault(number, format!("@capture {value}: {message}")),
                    _ => self.fault(number, format!("@capture {value:?}: write @capture NAME = PLACE, for example order = body.order_id")),
                }
            }
            _ => self.fault(
                number,
                format!("@{name} is not known; there are @name, @expect, @within and @capture"),
            ),
        }
    }

    /// Every name must be known here: what is set later does not count.
    fn references(&mut self, number: usize, text: &str) {
        match variables::references(text) {
            Err(message) => self.fault(number, message),
            Ok(references) => {
                for reference in references {
                    match reference {
                        Reference::Variable(name) if !self.known.contains(name) => {
                            let message = format!(
                                "{{{{{name}}}}} is not set before here; write @{name} = VALUE, or capture it"
                            );
                            self.fault(number, message);
                        }
                        Reference::Answer(name, _) if !self.answered.contains(name) => {
                            self.fault(number, format!("no request before here has # @name {name}"));
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn fault(&mut self, line: usize, message: impl Into<String>) {
        self.faults.push(Fault::new(line, message));
    }
}

/// What a comment says to the player, if it does.
fn directive_of(comment: &str) -> Option<&str> {
    comment.trim_start_matches('#').trim_start().strip_prefix('@')
}

fn http_token(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c))
}

/// `500ms`, `10s`, `2m`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMO: &str = r#"
@server = http://127.0.0.1:50051
@order = {{$uuid}}

### An order comes in
# A comment.
# @name create
# @expect status 201
# @capture token = body.token
POST {{server}}/v1/streams/order-{{order}}/events HTTP/1.1
Content-Type: application/json
X-Odd: a: b

{"events": [
  # not a comment
]}

### It is there
// @expect body.id == "{{order}}"
// @within 500ms
GET {{server}}/v1/orders/{{order}}
    ?min_token={{create.response.body.token}}
    &limit=1

###
{{server}}/readyz

###
PUT http://127.0.0.1:1/a

< ./body.json
"#;

    #[test]
    fn a_file_is_its_requests() {
        let script = parse(DEMO, []).unwrap();
        let [variables, create, get, ready, put] = script.requests.as_slice() else {
            panic!("{:#?}", script.requests)
        };
        assert_eq!(variables.variables.len(), 2);
        assert_eq!(
            (create.title.as_str(), create.name.as_deref(), create.line),
            ("An order comes in", Some("create"), 10)
        );
        assert_eq!(
            (create.method.as_str(), create.url.as_str()),
            ("POST", "{{server}}/v1/streams/order-{{order}}/events")
        );
        assert_eq!(create.headers[1], ("X-Odd".to_owned(), "a: b".to_owned()));
        assert_eq!(create.body, Some(Body::Text("{\"events\": [\n  # not a comment\n]}".to_owned())));
        assert_eq!(create.expectations, ["status 201"]);
        assert_eq!(create.captures[0].0, "token");
        assert_eq!(
            get.url,
            "{{server}}/v1/orders/{{order}}?min_token={{create.response.body.token}}&limit=1"
        );
        assert_eq!((get.within, get.body.as_ref()), (Some(Duration::from_millis(500)), None));
        assert_eq!(
            (ready.method.as_str(), ready.url.as_str(), ready.label()),
            ("GET", "{{server}}/readyz", "")
        );
        assert_eq!(put.body, Some(Body::File("./body.json".into())));
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        let text = "\
# @expect status 200
###
# @foo bar
# @name a b
# @within soon
# @expect body.a = 1
# @capture x
GET {{server}}/{{unset}}
Not a header

{{a.response.body.x}}
> {% client.test() %}

###
DELETE /relative
";
        let faults = parse(text, ["server"]).unwrap_err();
        let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
        #[rustfmt::skip]
        let expected = [
            "line 1: @expect status 200 is for a request",
            "line 3: @foo is not known",
            "line 4: \"a b\" is no name",
            "line 5: \"soon\" is no time",
            "line 6: @expect body.a = 1: ",
            "line 7: @capture \"x\"",
            "line 8: {{unset}} is not set before here",
            "line 9: \"Not a header\" is no header",
            "line 11: no request before here has # @name a",
            "line 12: scripts are not run",
            "line 15: \"/relative\" is no URL",
        ];
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{fault} is not {expected}");
        }
    }

    #[test]
    fn an_empty_file_is_a_fault() {
        assert_eq!(parse("# nothing\n", []).unwrap_err()[0].line, 1);
    }

    #[test]
    fn times() {
        for (text, time) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("10s", Some(Duration::from_secs(10))),
            ("2m", Some(Duration::from_mins(2))),
            ("10", None),
            ("s", None),
            ("1.5s", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(text), time, "{text}");
        }
    }

    #[test]
    fn what_would_not_be_checked_is_a_fault() {
        let faults = |text: &str| -> Vec<String> {
            let shown = |faults: Vec<Fault>| faults.iter().map(|fault| format!("{fault:?}")).collect();
            parse(text, []).map_or_else(shown, |_| Vec::new())
        };
        let late = faults("GET http://127.0.0.1:1/\n# @expect status 404\n");
        assert!(late.len() == 1 && late[0].contains("stands before the request line"), "{late:?}");
        assert_eq!(
            parse("## @expect status 404\nGET http://127.0.0.1:1/\n", []).unwrap().requests[0].expectations,
            ["status 404"]
        );
        let none = faults("@x = 1\n");
        assert!(none.len() == 1 && none[0].contains("there is no request"), "{none:?}");
    }
}
