//! A definition as a picture, in the language of Mermaid.
//!
//! ```text
//! start ──▶ step ──▶ group ──▶ pivot ──▶ step ──▶ completed
//!             ┊        ┊         ┊
//!             ▼        ▼         ┊
//! compensated ◀┈ undo ◀┈ undo ◀┈┈┘                 dashed: what is undone, the last first
//! ```

use std::fmt::Write;

use headwater_resources::saga::{AppendAction, CompensationType, GrpcAction, HttpAction, Role, Work};

use crate::definition::Definition;

/// What stands beside one another, forward or backward.
struct Group<'d> {
    /// The name of the step, or of that which holds the branches.
    name: &'d str,
    is_parallel: bool,
    works: Vec<(&'d str, &'d Work)>,
}

/// The saga `name`, whose instances follow `definition`, as a flow chart in the language of Mermaid.
///
/// It is a pure function of its arguments: a manifest is enough for it.
///
/// ```
/// # use headwater_resources::manifest;
/// # use headwater_saga::{Definition, mermaid};
/// # let text = "
/// # apiVersion: headwater.dev/v1alpha1
/// # kind: EventStream
/// # metadata: {name: orders}
/// # spec: {eventTypes: [{name: OrderCreated}]}
/// # ---
/// # apiVersion: headwater.dev/v1alpha1
/// # kind: Saga
/// # metadata: {name: place-order}
/// # spec:
/// #   streamRef: {name: orders}
/// #   startOn: {events: [OrderCreated]}
/// #   steps:
/// #   - {name: approve, role: Pivot, action: {type: HTTP, http: {method: POST, url: 'http://orders/approve'}}}
/// # ";
/// # let manifests = manifest::read_texts([("saga.yaml", text)]);
/// let (saga, stream) = (&manifests.sagas[0].spec, &manifests.event_streams[0].spec);
/// let chart = mermaid(&Definition::new(saga, stream), "place-order");
/// assert!(chart.starts_with("flowchart TD\n"));
/// ```
pub fn mermaid(definition: &Definition, name: &str) -> String {
    let groups: Vec<Group<'_>> = definition
        .steps
        .iter()
        .map(|step| Group { name: &step.name, is_parallel: step.parallel.is_some(), works: step.works() })
        .collect();
    let mut chart = Chart { text: "flowchart TD\n".to_owned(), stream: &definition.stream };
    let begins = format!("an event of {} begins it", definition.stream);
    chart.node("start", Shape::Terminal, &[name.to_owned(), begins]);
    for (index, group) in groups.iter().enumerate() {
        chart.forward(index, group);
    }
    chart.ending("completed", definition.on_completed.as_ref().map(|ending| &ending.append));
    for (index, group) in groups.iter().enumerate().rev() {
        chart.backward(index, group);
    }
    let turns = groups.iter().any(Group::turns);
    if turns {
        chart.ending("compensated", definition.on_compensated.as_ref().map(|ending| &ending.append));
    }
    let mut last = "start".to_owned();
    for (index, group) in groups.iter().enumerate() {
        let id = group.id(index);
        chart.edge(&format!("{last} --> {id}"));
        last = id;
    }
    chart.edge(&format!("{last} --> completed"));
    // What is undone next when the groups from here on are undone, or nothing was done in them.
    let mut earlier = "compensated".to_owned();
    let mut undone = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let (id, undo) = (group.id(index), group.undo_id(index));
        if group.turns() {
            match &undo {
                Some(undo) if group.is_parallel => {
                    chart.edge(&format!("{id} -. \"failed or unknown\" .-> {undo}"));
                }
                Some(undo) => {
                    chart.edge(&format!("{id} -. \"failed\" .-> {earlier}"));
                    chart.edge(&format!("{id} -. \"unknown\" .-> {undo}"));
                }
                // Whether a pivot was done is found out.
                None if group.has(Role::Compensatable) => {
                    chart.edge(&format!("{id} -. \"failed or unknown\" .-> {earlier}"));
                }
                None => chart.edge(&format!("{id} -. \"failed\" .-> {earlier}")),
            }
        }
        if let Some(undo) = undo {
            undone.push(format!("{undo} -.-> {earlier}"));
            earlier = undo;
        }
    }
    for edge in undone.iter().rev() {
        chart.edge(edge);
    }
    chart.text
}

impl Group<'_> {
    fn id(&self, index: usize) -> String {
        if self.is_parallel { format!("group{index}") } else { format!("step{index}") }
    }

    /// What undoes it, if something does.
    fn undo_id(&self, index: usize) -> Option<String> {
        let undone = self.works.iter().any(|(_, work)| compensation(work).is_some());
        undone.then(|| if self.is_parallel { format!("undo_group{index}") } else { format!("undo{index}") })
    }

    fn has(&self, role: Role) -> bool {
        self.works.iter().any(|(_, work)| work.role.unwrap_or_default() == role)
    }

    /// Whether the saga turns back when it cannot be done.
    fn turns(&self) -> bool {
        self.has(Role::Compensatable) || self.has(Role::Pivot)
    }
}

enum Shape {
    Terminal,
    Step,
    Pivot,
    Undo,
}

struct Chart<'d> {
    text: String,
    /// Where appends go that name no stream.
    stream: &'d str,
}

impl Chart<'_> {
    fn line(&mut self, text: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "    {text}");
    }

    fn node(&mut self, id: &str, shape: Shape, lines: &[String]) {
        let label = lines.iter().map(|line| escape(line)).collect::<Vec<_>>().join("<br/>");
        let (open, close) = match shape {
            Shape::Terminal => ("([", "])"),
            Shape::Step => ("[", "]"),
            Shape::Pivot => ("{{", "}}"),
            Shape::Undo => ("(", ")"),
        };
        self.line(&format!("{id}{open}\"{label}\"{close}"));
    }

    fn edge(&mut self, edge: &str) {
        self.line(edge);
    }

    fn forward(&mut self, index: usize, group: &Group<'_>) {
        self.open(group, &format!("group{index}"), "");
        for (branch, (name, work)) in group.works.iter().enumerate() {
            let is_pivot = work.role == Some(Role::Pivot);
            let mut lines = vec![if is_pivot { format!("{name} (pivot)") } else { (*name).to_owned() }];
            lines.extend(work.action.as_ref().and_then(|action| {
                self.call(action.http.as_ref(), action.append.as_ref(), action.grpc.as_ref())
            }));
            lines.extend(work.await_reply.as_ref().map(|reply| {
                let events: Vec<&str> =
                    reply.success.iter().chain(&reply.failure).map(String::as_str).collect();
                format!("waits for {}", events.join(" or "))
            }));
            let id = inner(group, "step", index, branch);
            self.node(&id, if is_pivot { Shape::Pivot } else { Shape::Step }, &lines);
        }
        self.close(group);
    }

    fn backward(&mut self, index: usize, group: &Group<'_>) {
        let Some(id) = group.undo_id(index) else { return };
        self.open(group, &id, "undo ");
        for (branch, (name, work)) in group.works.iter().enumerate() {
            let Some(compensation) = compensation(work) else { continue };
            let mut lines = vec![format!("undo {name}")];
            lines.extend(self.call(
                compensation.http.as_ref(),
                compensation.append.as_ref(),
                compensation.grpc.as_ref(),
            ));
            self.node(&inner(group, "undo", index, branch), Shape::Undo, &lines);
        }
        self.close(group);
    }

    fn open(&mut self, group: &Group<'_>, id: &str, prefix: &str) {
        if group.is_parallel {
            self.line(&format!("subgraph {id}[\"{prefix}{}\"]", escape(group.name)));
        }
    }

    fn close(&mut self, group: &Group<'_>) {
        if group.is_parallel {
            self.line("end");
        }
    }

    fn ending(&mut self, state: &str, append: Option<&AppendAction>) {
        let mut lines = vec![state.to_owned()];
        lines.extend(self.call(None, append, None));
        self.node(state, Shape::Terminal, &lines);
    }

    /// What is called, in a line.
    fn call(
        &self,
        http: Option<&HttpAction>,
        append: Option<&AppendAction>,
        grpc: Option<&GrpcAction>,
    ) -> Option<String> {
        match (http, append, grpc) {
            (Some(http), ..) => {
                let url: &str = &http.url;
                Some(format!("{} {url}", http.method.as_str()))
            }
            (_, Some(append), _) => {
                let stream = append.stream_ref.as_ref().map_or(self.stream, |stream| stream.name.as_str());
                Some(format!("append {} to {stream}", append.r#type))
            }
            (.., Some(grpc)) => Some(format!("gRPC {} at {}", grpc.method, grpc.address)),
            (None, None, None) => None,
        }
    }
}

fn inner(group: &Group<'_>, prefix: &str, index: usize, branch: usize) -> String {
    if group.is_parallel { format!("{prefix}{index}_{branch}") } else { format!("{prefix}{index}") }
}

fn compensation(work: &Work) -> Option<&headwater_resources::saga::Compensation> {
    work.compensation.as_ref().filter(|compensation| compensation.r#type != CompensationType::None)
}

/// Text as it may stand between quotation marks: what ends the text, begins an element, an entity, a directive or Markdown is an
/// entity by number, and a label stays on its line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | '%' | '*' | '\\' => {
                let _ = write!(escaped, "#{};", u32::from(c));
            }
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use headwater_resources::manifest;

    use super::*;

    const MANIFEST: &str = r#"
apiVersion: headwater.dev/v1alpha1
kind: EventStream
metadata: {name: orders}
spec: {eventTypes: [{name: OrderCreated}, {name: OrderApproved}, {name: OrderRejected}, {name: Debited}, {name: Declined}]}
---
apiVersion: headwater.dev/v1alpha1
kind: Saga
metadata: {name: place-order}
spec:
  streamRef: {name: orders}
  startOn: {events: [OrderCreated]}
  variables: {order: event.data}
  steps:
  - name: check
    action: {type: HTTP, http: {method: GET, url: 'http://shop/checks?a="1"&b=%3C#<script>'}}
    compensation: {type: None}
  - name: reserve
    action: {type: HTTP, http: {method: POST, url: 'http://stock/${instance}'}}
    compensation: {type: HTTP, http: {method: DELETE, url: 'http://stock/${instance}'}}
  - name: prepare
    parallel:
      steps:
      - name: debit
        action: {type: GRPC, grpc: {address: "payments:80", method: payments.v1.Payments/Debit, request: {}}}
        awaitReply: {success: [Debited], failure: [Declined], correlate: {event: event.streamId, instance: instance}}
        compensation: {type: GRPC, grpc: {address: "payments:80", method: payments.v1.Payments/Void, request: {}}}
      - name: score
        action: {type: HTTP, http: {method: PUT, url: 'http://scores/${instance}'}}
        compensation: {type: None}
  - name: approve
    role: Pivot
    action: {type: Append, append: {streamId: '${instance}', type: OrderApproved, data: {}}}
  - name: ship
    role: Retriable
    action: {type: HTTP, http: {method: POST, url: 'http://ships/${instance}'}}
  onCompensated: {append: {streamId: '${instance}', type: OrderRejected, data: {}}}
"#;

    fn chart(text: &str) -> String {
        let manifests = manifest::read_texts([("saga.yaml", text)]);
        assert!(manifests.is_valid(), "{:?}", manifests.faults);
        let (saga, stream) = (&manifests.sagas[0].spec, &manifests.event_streams[0].spec);
        mermaid(&Definition::new(saga, stream), "place-order")
    }

    #[test]
    fn a_chart_shows_every_step_and_the_way_back() {
        assert_eq!(
            chart(MANIFEST),
            r#"flowchart TD
    start(["place-order<br/>an event of orders begins it"])
    step0["check<br/>GET http://shop/checks?a=#34;1#34;#38;b=#37;3C#35;#60;script#62;"]
    step1["reserve<br/>POST http://stock/${instance}"]
    subgraph group2["prepare"]
    step2_0["debit<br/>gRPC payments.v1.Payments/Debit at payments:80<br/>waits for Debited or Declined"]
    step2_1["score<br/>PUT http://scores/${instance}"]
    end
    step3{{"approve (pivot)<br/>append OrderApproved to orders"}}
    step4["ship<br/>POST http://ships/${instance}"]
    completed(["completed"])
    subgraph undo_group2["undo prepare"]
    undo2_0("undo debit<br/>gRPC payments.v1.Payments/Void at payments:80")
    end
    undo1("undo reserve<br/>DELETE http://stock/${instance}")
    compensated(["compensated<br/>append OrderRejected to orders"])
    start --> step0
    step0 --> step1
    step1 --> group2
    group2 --> step3
    step3 --> step4
    step4 --> completed
    step0 -. "failed or unknown" .-> compensated
    step1 -. "failed" .-> compensated
    step1 -. "unknown" .-> undo1
    group2 -. "failed or unknown" .-> undo_group2
    step3 -. "failed" .-> undo_group2
    undo_group2 -.-> undo1
    undo1 -.-> compensated
"#
        );
    }

    #[test]
    fn before_the_first_compensation_there_is_nothing_to_undo() {
        let (head, _) = MANIFEST.split_once("  - name: check").unwrap();
        let steps = "  - {name: ship, role: Pivot, action: {type: HTTP, http: {method: POST, url: 'http://ships/'}}}\n";
        let chart = chart(&format!("{head}{steps}"));
        assert!(
            chart.ends_with("    step0 --> completed\n    step0 -. \"failed\" .-> compensated\n"),
            "{chart}"
        );
    }

    #[test]
    fn no_text_ends_its_label() {
        assert_eq!(escape("a\"]\nb %%{init}%% `c`"), "a#34;] b #37;#37;{init}#37;#37; #96;c#96;");
    }
}
