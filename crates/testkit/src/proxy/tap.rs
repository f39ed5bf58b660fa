//! Listens to one connection to PostgreSQL, and answers in the server's place where a fault is to be.
//!
//! ```text
//! client ──Parse·Bind·Execute·Sync, or Query: a round──▶ passed on, kept back, or something else in its place
//!        ◀──────────────… ReadyForQuery: its answer────  passed on, or an error in its place
//! ```
//!
//! Rounds may be sent before those before them are answered; answers come in order.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Direction;
use super::frames::{Frame, Frames};
use super::postgres::{Fault, PostgresFaults};

/// Requests that come instead of a start: for encryption by TLS, and by GSSAPI.
const ENCRYPTIONS: [u32; 2] = [80_877_103, 80_877_104];

/// The server's word for "outside of a transaction".
const IDLE: u8 = b'I';
const IN_TRANSACTION: u8 = b'T';

/// What goes where now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    pub(super) cut: bool,
}

impl Moves {
    /// Everything goes on as it came.
    pub(super) fn along(direction: Direction, bytes: Vec<u8>) -> Self {
        match direction {
            Direction::ToServer => Self { to_server: bytes, ..Self::default() },
            Direction::ToClient => Self { to_client: bytes, ..Self::default() },
        }
    }
}

/// What a statement does, in ascending order of what it means for a round that has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Nothing,
    Read,
    Write,
    Begin,
    Rollback,
    Commit,
}

/// How a round is answered.
#[derive(Debug)]
enum Round {
    /// As the server does.
    Passed,
    /// By this error, in the state of then: the server has not heard of it.
    Kept(&'static str),
    /// By this error: the server has executed something else.
    Replaced(&'static str),
    /// By this error, unless it failed by itself.
    Ambiguous(&'static str, Vec<u8>),
    /// By no answer, unless it failed by itself.
    Cut(Vec<u8>),
}

pub(super) struct Tap {
    faults: Arc<PostgresFaults>,
    from_client: Frames,
    from_server: Frames,
    has_begun: bool,
    /// The server has let the client in.
    is_in: bool,
    /// The messages of the round that the client has not finished.
    unfinished: Vec<u8>,
    /// What it does; `None` before anything is executed.
    doing: Option<Kind>,
    /// By the name of a statement, and of a portal.
    statements: HashMap<Vec<u8>, Kind>,
    portals: HashMap<Vec<u8>, Kind>,
    rounds: VecDeque<Round>,
    /// The server's state when all rounds that have been sent are answered.
    status: u8,
    /// The answer that is under way has an error.
    has_failed: bool,
    moves: Moves,
}

impl Tap {
    pub(super) fn new(faults: Arc<PostgresFaults>) -> Self {
        Self {
            faults,
            from_client: Frames::default(),
            from_server: Frames::default(),
            has_begun: false,
            is_in: false,
            unfinished: Vec::new(),
            doing: None,
            statements: HashMap::new(),
            portals: HashMap::new(),
            rounds: VecDeque::new(),
            status: IDLE,
            has_failed: false,
            moves: Moves::default(),
        }
    }

    /// What is to be done about these bytes that one end has sent.
    pub(super) fn hear(&mut self, direction: Direction, bytes: &[u8]) -> Moves {
        match direction {
            Direction::ToServer => {
                self.from_client.push(bytes);
                while !self.has_begun {
                    let Some(frame) = self.from_client.first() else { break };
                    self.start(frame);
                }
                while self.has_begun {
                    let Some(frame) = self.from_client.next() else { break };
                    self.ask(frame);
                }
            }
            Direction::ToClient => {
                self.from_server.push(bytes);
                while let Some(frame) = self.from_server.next() {
                    self.answer(&frame);
                }
            }
        }
        std::mem::take(&mut self.moves)
    }

    fn start(&mut self, frame: Frame) {
        let code = frame.body().iter().take(4).fold(0_u32, |code, byte| (code << 8) + u32::from(*byte));
        if ENCRYPTIONS.contains(&code) {
            // What is encrypted cannot be listened to.
            self.moves.to_client.push(b'N');
            return;
        }
        self.has_begun = true;
        self.moves.to_server.extend(frame.bytes);
    }

    fn ask(&mut self, frame: Frame) {
        if !self.is_in {
            self.moves.to_server.extend(frame.bytes);
            return;
        }
        let name = |index: usize| frame.texts().nth(index).unwrap_or_default().to_vec();
        let mut is_end = false;
        match frame.kind {
            b'P' => {
                self.statements.insert(name(0), kind(&name(1)));
            }
            b'B' => {
                let kind = self.statements.get(&name(1)).copied().unwrap_or(Kind::Nothing);
                self.portals.insert(name(0), kind);
            }
            b'E' => {
                let kind = self.portals.get(&name(0)).copied().unwrap_or(Kind::Nothing);
                self.doing = self.doing.max(Some(kind));
            }
            b'Q' => {
                self.doing = Some(kind(&name(0)));
                is_end = true;
            }
            b'S' => is_end = true,
            // Flush, and the end: nothing is kept back any more.
            b'H' | b'X' => {
                self.moves.to_server.append(&mut self.unfinished);
                self.moves.to_server.extend(frame.bytes);
                return;
            }
            _ => {}
        }
        self.unfinished.extend(frame.bytes);
        if is_end {
            self.finish();
        }
    }

    /// Decides about a whole round.
    fn finish(&mut self) {
        let bytes = std::mem::take(&mut self.unfinished);
        let kind = self.doing.take().unwrap_or(Kind::Nothing);
        let is_idle = self.status == IDLE;
        let is_commit = match kind {
            Kind::Commit => !is_idle,
            Kind::Write => is_idle,
            _ => false,
        };
        let may_fail = is_commit || matches!(kind, Kind::Read | Kind::Write);
        let fault = if may_fail { self.faults.fault(is_commit) } else { None };
        match kind {
            Kind::Begin => self.status = IN_TRANSACTION,
            Kind::Commit | Kind::Rollback => self.status = IDLE,
            Kind::Nothing | Kind::Read | Kind::Write => {}
        }
        let (sent, round) = match fault {
            None => (bytes, Round::Passed),
            Some(Fault::Refused(code)) => {
                self.faults.has_injected();
                match (kind, is_idle) {
                    (_, true) => (Vec::new(), Round::Kept(code)),
                    (Kind::Commit, false) => (Frame::query("ROLLBACK").bytes, Round::Replaced(code)),
                    // Something that fails, so that the server gives the transaction up.
                    (_, false) => (Frame::query("FAULT").bytes, Round::Replaced(code)),
                }
            }
            Some(Fault::Ambiguous(code)) => (bytes, Round::Ambiguous(code, Vec::new())),
            Some(Fault::CutBefore) => {
                self.faults.has_injected();
                self.moves.cut = true;
                return;
            }
            Some(Fault::CutAfter) => (bytes, Round::Cut(Vec::new())),
        };
        self.moves.to_server.extend(sent);
        self.rounds.push_back(round);
        self.answer_kept(IDLE);
    }

    /// Answers those whose turn it is and that the server does not know of.
    fn answer_kept(&mut self, status: u8) {
        while let Some(Round::Kept(code)) = self.rounds.front() {
            self.moves.to_client.extend(Frame::error(code).bytes);
            self.moves.to_client.extend(Frame::ready(status).bytes);
            self.rounds.pop_front();
        }
    }

    fn answer(&mut self, frame: &Frame) {
        let is_end = frame.kind == b'Z';
        let status = frame.body().first().copied().unwrap_or(IDLE);
        let is_aside = matches!(frame.kind, b'N' | b'S' | b'A');
        let client = &mut self.moves.to_client;
        match self.rounds.front_mut() {
            Some(Round::Replaced(code)) if !is_aside => {
                if is_end {
                    client.extend(Frame::error(code).bytes);
                    client.extend(&frame.bytes);
                }
            }
            Some(Round::Ambiguous(_, held) | Round::Cut(held)) if !is_aside => {
                held.extend(&frame.bytes);
                self.has_failed |= frame.kind == b'E';
            }
            _ => client.extend(&frame.bytes),
        }
        if !is_end {
            return;
        }
        self.is_in = true;
        let has_failed = std::mem::take(&mut self.has_failed);
        match self.rounds.pop_front() {
            Some(Round::Ambiguous(_, held) | Round::Cut(held)) if has_failed => {
                self.moves.to_client.extend(held);
            }
            Some(Round::Ambiguous(code, _)) => {
                self.faults.has_injected();
                self.moves.to_client.extend(Frame::error(code).bytes);
                self.moves.to_client.extend(&frame.bytes);
            }
            Some(Round::Cut(_)) => {
                self.faults.has_injected();
                self.moves.cut = true;
            }
            _ => {}
        }
        if self.rounds.is_empty() {
            self.status = status;
        }
        self.answer_kept(status);
    }
}

/// What `sql` does.
fn kind(sql: &[u8]) -> Kind {
    let sql = String::from_utf8_lossy(sql).to_uppercase();
    let code: String =
        sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    match words.next() {
        Some("BEGIN" | "START") => Kind::Begin,
        Some("COMMIT" | "END") => Kind::Commit,
        Some("ROLLBACK" | "ABORT") => {
            if words.any(|word| word == "TO") {
                Kind::Nothing
            } else {
                Kind::Rollback
            }
        }
        Some("INSERT" | "UPDATE" | "DELETE" | "TRUNCATE" | "CREATE" | "ALTER" | "DROP" | "GRANT") => {
            Kind::Write
        }
        Some("WITH") if words.any(|word| matches!(word, "INSERT" | "UPDATE" | "DELETE")) => Kind::Write,
        Some("SELECT" | "WITH" | "VALUES" | "TABLE") => Kind::Read,
        Some(_) | None => Kind::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that is let in, by a server that offers nothing else.
    fn tap(fault: Fault, one_in: u64) -> (Tap, Arc<PostgresFaults>) {
        let faults = Arc::new(PostgresFaults::new(&[fault], one_in, 0));
        let mut tap = Tap::new(Arc::clone(&faults));
        let tls = [8_u32.to_be_bytes(), ENCRYPTIONS[0].to_be_bytes()].concat();
        let no = Moves { to_client: b"N".to_vec(), ..Moves::default() };
        assert_eq!(tap.hear(Direction::ToServer, &tls), no);
        let start = [14_u32.to_be_bytes().as_slice(), &196_608_u32.to_be_bytes(), b"user\0\0"].concat();
        assert_eq!(tap.hear(Direction::ToServer, &start).to_server, start);
        let welcome = [Frame::new(b'R', &[0; 4]).bytes, Frame::ready(IDLE).bytes].concat();
        assert_eq!(tap.hear(Direction::ToClient, &welcome).to_client, welcome);
        (tap, faults)
    }

    fn prepared(name: &str, sql: &str) -> (Vec<u8>, Vec<u8>) {
        let parse = Frame::new(b'P', format!("{name}\0{sql}\0\0\0").as_bytes()).bytes;
        let bind = Frame::new(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes()).bytes;
        let sync = Frame::new(b'S', b"").bytes;
        let execute = [bind, Frame::new(b'E', b"\0\0\0\0\0").bytes, sync.clone()].concat();
        ([parse, sync].concat(), execute)
    }

    fn done(status: u8) -> Vec<u8> {
        [Frame::new(b'C', b"DONE\0").bytes, Frame::ready(status).bytes].concat()
    }

    fn failed(code: &str, status: u8) -> Vec<u8> {
        [Frame::error(code).bytes, Frame::ready(status).bytes].concat()
    }

    #[test]
    fn a_refused_statement_does_not_reach_the_server() {
        let (mut tap, faults) = tap(Fault::Refused("40001"), 1);
        let (parse, execute) = prepared("s1", "-- why\nUPDATE a SET b = 1");
        assert_eq!(tap.hear(Direction::ToServer, &parse).to_server, parse);
        tap.hear(Direction::ToClient, &done(IDLE));
        // In pieces, as the network may have it.
        let (head, tail) = execute.split_at(7);
        assert_eq!(tap.hear(Direction::ToServer, head), Moves::default());
        let moves = tap.hear(Direction::ToServer, tail);
        assert_eq!(moves, Moves { to_client: failed("40001", IDLE), ..Moves::default() });
        assert_eq!(faults.injected(), 1);
    }

    #[test]
    fn a_transaction_of_a_refused_statement_is_given_up_at_the_server() {
        let (mut tap, _) = tap(Fault::Refused("40001"), 1);
        let begin = Frame::query("BEGIN").bytes;
        assert_eq!(tap.hear(Direction::ToServer, &begin).to_server, begin);
        tap.hear(Direction::ToClient, &done(IN_TRANSACTION));
        let moves = tap.hear(Direction::ToServer, &Frame::query("SELECT 1").bytes);
        assert_eq!(moves.to_server, Frame::query("FAULT").bytes);
        let moves = tap.hear(Direction::ToClient, &failed("42601", b'E'));
        assert_eq!(moves.to_client, failed("40001", b'E'));
        let rollback = Frame::query("ROLLBACK").bytes;
        assert_eq!(tap.hear(Direction::ToServer, &rollback).to_server, rollback);
        tap.hear(Direction::ToClient, &done(IDLE));

        tap.hear(Direction::ToServer, &begin);
        tap.hear(Direction::ToClient, &done(IN_TRANSACTION));
        let moves = tap.hear(Direction::ToServer, &Frame::query("COMMIT").bytes);
        assert_eq!(moves.to_server, rollback);
        assert_eq!(tap.hear(Direction::ToClient, &done(IDLE)).to_client, failed("40001", IDLE));
    }

    #[test]
    fn an_ambiguous_commit_is_executed_and_answered_by_an_error() {
        let (mut tap, faults) = tap(Fault::Ambiguous("40003"), 1);
        let write = Frame::query("INSERT INTO a VALUES (1)").bytes;
        assert_eq!(tap.hear(Direction::ToServer, &write).to_server, write);
        assert_eq!(tap.hear(Direction::ToClient, &done(IDLE)).to_client, failed("40003", IDLE));
        assert_eq!(faults.injected(), 1);
        // What fails by itself is told as it is.
        tap.hear(Direction::ToServer, &write);
        assert_eq!(tap.hear(Direction::ToClient, &failed("23505", IDLE)).to_client, failed("23505", IDLE));
        assert_eq!(faults.injected(), 1);
        // Inside of a transaction nothing is committed before its end.
        tap.hear(Direction::ToServer, &Frame::query("BEGIN").bytes);
        tap.hear(Direction::ToClient, &done(IN_TRANSACTION));
        tap.hear(Direction::ToServer, &write);
        assert_eq!(tap.hear(Direction::ToClient, &done(IN_TRANSACTION)).to_client, done(IN_TRANSACTION));
        tap.hear(Direction::ToServer, &Frame::query("COMMIT").bytes);
        assert_eq!(tap.hear(Direction::ToClient, &done(IDLE)).to_client, failed("40003", IDLE));
    }

    #[test]
    fn a_connection_is_cut_before_or_after_the_commit() {
        let write = Frame::query("WITH a AS (DELETE FROM b) SELECT 1").bytes;
        let cut = Moves { cut: true, ..Moves::default() };
        let (mut before, faults) = tap(Fault::CutBefore, 1);
        let read = Frame::query("SELECT 1").bytes;
        assert_eq!(before.hear(Direction::ToServer, &read).to_server, read);
        before.hear(Direction::ToClient, &done(IDLE));
        assert_eq!(before.hear(Direction::ToServer, &write), cut);
        assert_eq!(faults.injected(), 1);
        let (mut after, faults) = tap(Fault::CutAfter, 1);
        assert_eq!(after.hear(Direction::ToServer, &write).to_server, write);
        assert_eq!(faults.injected(), 0);
        assert_eq!(after.hear(Direction::ToClient, &done(IDLE)), cut);
        assert_eq!(faults.injected(), 1);
    }

    #[test]
    fn answers_come_in_the_order_of_the_questions() {
        let (mut tap, _) = tap(Fault::Refused("40001"), 1);
        // A ping is no statement; the query after it is refused, before the ping has been answered.
        let sync = Frame::new(b'S', b"").bytes;
        assert_eq!(tap.hear(Direction::ToServer, &sync).to_server, sync);
        assert_eq!(tap.hear(Direction::ToServer, &Frame::query("SELECT 1").bytes), Moves::default());
        let moves = tap.hear(Direction::ToClient, &Frame::ready(IDLE).bytes);
        assert_eq!(moves.to_client, [Frame::ready(IDLE).bytes, failed("40001", IDLE)].concat());
    }

    #[test]
    fn statements_are_told_apart() {
        for (sql, wanted) in [
            ("", Kind::Nothing),
            ("-- update\nselect 1", Kind::Read),
            ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", Kind::Begin),
            ("with a as (select 1) select updated from a", Kind::Read),
            ("WITH a AS (\nUPDATE b SET c = 1) SELECT 1", Kind::Write),
            ("COMMIT", Kind::Commit),
            ("ROLLBACK TO SAVEPOINT a", Kind::Nothing),
            ("ROLLBACK", Kind::Rollback),
            ("CREATE TABLE a ()", Kind::Write),
        ] {
            assert_eq!(kind(sql.as_bytes()), wanted, "{sql}");
        }
    }
}
