//! What happened: a digest of everything, the last events, and on a second run the whole story.

use std::collections::VecDeque;
use std::fmt::{self, Debug, Write};
use std::hash::{Hash, Hasher};

use crate::id::NodeId;
use crate::protocol::Protocol;
use crate::random::mix;
use crate::time::Instant;

/// Folds what a protocol says into words, so that two runs can be compared. It must tell apart what differs, and be
/// the same on every platform. The defaults read the `Debug` form: right, and too slow for long runs.
pub trait Fingerprint: Protocol {
    /// Of a message.
    fn of_message(message: &Self::Message) -> u64 {
        of_debug(message)
    }

    /// Of a record.
    fn of_record(record: &Self::Record) -> u64 {
        of_debug(record)
    }

    /// Of an alarm's name.
    fn of_timer(timer: Self::Timer) -> u64 {
        of_debug(&timer)
    }

    /// Of what the application hears.
    fn of_event(event: &Self::Event) -> u64 {
        of_debug(event)
    }

    /// Of a request.
    fn of_request(request: &Self::Request) -> u64 {
        of_debug(request)
    }

    /// Of an answer.
    fn of_answer(answer: &Result<Self::Answer, Self::Error>) -> u64 {
        of_debug(answer)
    }

    /// What part a process plays from now on, when that is what the event says. It is for pictures: no digest knows it.
    fn part(event: &Self::Event) -> Option<Part> {
        let _ = event;
        None
    }
}

/// What a process takes part in as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The role, in the protocol's word.
    pub role: &'static str,
    /// In which term.
    pub term: u64,
}

/// The fingerprint of a value's `Debug` form.
pub fn of_debug(value: &impl Debug) -> u64 {
    let mut digest = Digest::default();
    // Writing to a digest cannot fail.
    let _ = write!(digest, "{value:?}");
    digest.word()
}

/// The fingerprint of a value's `Hash`.
pub fn of_hash(value: &impl Hash) -> u64 {
    let mut digest = Digest::default();
    value.hash(&mut digest);
    digest.word()
}

/// A running digest of words; the same on every platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }
}

impl Digest {
    /// Folds a word in.
    #[inline]
    pub const fn fold(&mut self, word: u64) {
        let folded = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = folded ^ (folded >> 29);
    }

    /// What it comes to.
    #[inline]
    pub const fn word(self) -> u64 {
        mix(self.0)
    }
}

// Sizes are widened and native byte order avoided, so that a derived `Hash` folds alike everywhere.
impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.word()
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.fold(u64::from_le_bytes(word));
        }
        self.fold(bytes.len() as u64);
    }

    fn write_u8(&mut self, value: u8) {
        self.fold(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.fold(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.fold(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.fold(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.fold(value as u64);
        self.fold((value >> 64) as u64);
    }

    fn write_usize(&mut self, value: usize) {
        self.fold(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.fold(value as i64 as u64);
    }
}

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Byte by byte: how a text is cut into pieces must not matter.
        for byte in text.bytes() {
            self.fold(u64::from(byte));
        }
        Ok(())
    }
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// A life began.
    Start,
    /// A message arrived.
    Receive,
    /// An alarm rang.
    Expire,
    /// A request arrived.
    Request,
    /// A hint about a connection arrived.
    Link,
    /// A sync ended: records are durable.
    Synced,
    /// A message left.
    Send,
    /// A promise was made; it leaves when the disk has answered.
    Promise,
    /// A record was appended.
    Persist,
    /// A record was appended that replaces all before it.
    Checkpoint,
    /// An alarm was set.
    Set,
    /// An alarm was forgotten.
    Cancel,
    /// A request was answered.
    Answer,
    /// The application was told.
    Notify,
    /// A message was lost on its way: its sender's row, or, when it came as far as that, its receiver's.
    Lost,
    /// A life ended.
    Crash,
    /// A fault began.
    Begin,
    /// A fault ended.
    End,
    /// A process plays another part from now on.
    Become,
}

impl Verb {
    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Receive => "receive",
            Self::Expire => "expire",
            Self::Request => "request",
            Self::Link => "link",
            Self::Synced => "synced",
            Self::Send => "send",
            Self::Promise => "promise",
            Self::Persist => "persist",
            Self::Checkpoint => "checkpoint",
            Self::Set => "set",
            Self::Cancel => "cancel",
            Self::Answer => "answer",
            Self::Notify => "notify",
            Self::Lost => "lost",
            Self::Crash => "crash",
            Self::Begin => "begin",
            Self::End => "end",
            Self::Become => "become",
        }
    }

    /// Whether the world did it to a process, and not a process to the world.
    pub const fn is_input(self) -> bool {
        matches!(
            self,
            Self::Start
                | Self::Receive
                | Self::Expire
                | Self::Request
                | Self::Link
                | Self::Synced
                | Self::Crash
        )
    }

    /// Whether it lasts: what is so afterwards cannot be told from later rows.
    const fn lasts(self) -> bool {
        matches!(self, Self::Start | Self::Crash | Self::Begin | Self::End | Self::Become)
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The world's time.
    pub at: Instant,
    /// How many inputs had been handled.
    pub step: u64,
    /// To whom; `None`: to the world.
    pub node: Option<NodeId>,
    /// What.
    pub verb: Verb,
    /// From whom, or to whom.
    pub peer: Option<NodeId>,
    /// The fingerprint of what it was about.
    pub fingerprint: u64,
    /// When the message left that arrived, or was lost where it should have arrived.
    pub sent: Option<Instant>,
    /// What a process plays from now on.
    pub part: Option<Part>,
    /// It in words; empty unless the world was told to record. Of faults there are always words.
    pub text: String,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanoseconds = self.at.as_nanos();
        write!(f, "{:>7} {:>4}.{:09} ", self.step, nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000)?;
        match self.node {
            Some(node) => write!(f, "{node:?} {}", self.verb.name())?,
            None => write!(f, "world {}", self.verb.name())?,
        }
        if let Some(peer) = self.peer {
            write!(f, " {peer:?}")?;
        }
        if let Some(Part { role, term }) = self.part {
            return write!(f, " {role} term={term}");
        }
        if self.text.is_empty() {
            write!(f, " #{:016x}", self.fingerprint)
        } else {
            write!(f, " {}", self.text)
        }
    }
}

/// The last things that happened, or, when recording, all of them.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    rows: VecDeque<Row>,
    kept: usize,
    recording: bool,
    /// Effects are kept, too.
    effects: bool,
    /// Rows that have given way to later ones, and tell what is still so.
    before: Vec<Row>,
}

impl Trace {
    pub(super) fn new(kept: usize, recording: bool) -> Self {
        Self {
            rows: VecDeque::with_capacity(if recording { 0 } else { kept.min(1024) }),
            kept,
            recording,
            effects: recording,
            before: Vec::new(),
        }
    }

    pub(super) const fn is_recording(&self) -> bool {
        self.recording
    }

    /// Keeps effects from now on, without their words.
    pub(super) const fn keep_effects(&mut self) {
        self.effects = true;
    }

    #[inline]
    pub(super) const fn keeps(&self, verb: Verb) -> bool {
        self.effects || verb.is_input() || matches!(verb, Verb::Lost | Verb::Begin | Verb::End | Verb::Become)
    }

    /// Whether such a row is told in words.
    #[inline]
    pub(super) const fn words(&self, verb: Verb) -> bool {
        self.recording || matches!(verb, Verb::Begin | Verb::End)
    }

    #[inline]
    pub(super) fn push(&mut self, row: Row) {
        if !self.recording {
            if self.kept == 0 {
                return;
            }
            if self.rows.len() == self.kept
                && let Some(old) = self.rows.pop_front()
                && old.verb.lasts()
            {
                self.settle(old);
            }
        }
        self.rows.push_back(row);
    }

    /// Keeps what a row tells beyond its time, instead of what it makes void.
    #[cold]
    fn settle(&mut self, row: Row) {
        let same = |other: &Row| {
            (other.peer, other.fingerprint, &other.text) == (row.peer, row.fingerprint, &row.text)
        };
        match row.verb {
            Verb::End => {
                let begun = self.before.iter().position(|other| other.verb == Verb::Begin && same(other));
                if let Some(place) = begun {
                    self.before.remove(place);
                }
                return;
            }
            // A life begins without a part, and ends with it.
            Verb::Start | Verb::Crash => {
                self.before.retain(|other| other.node.is_none() || other.node != row.node);
            }
            Verb::Become => self.before.retain(|other| other.verb != Verb::Become || other.node != row.node),
            _ => {}
        }
        self.before.push(row);
    }

    /// What was so when the first of the rows happened, where rows have given way: of each process its last start or
    /// crash and the part that it plays, and the faults in force, in the order in which they came.
    pub fn before(&self) -> impl DoubleEndedIterator<Item = &Row> + Clone {
        self.before.iter()
    }

    /// How many things are here.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is here.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// All, in order.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = &Row> + Clone {
        self.rows.iter()
    }

    /// Those that pass all that `filter` asks for.
    pub fn filter(&self, filter: Filter) -> impl DoubleEndedIterator<Item = &Row> + Clone {
        self.rows.iter().filter(move |row| filter.passes(row))
    }

    /// One JSON object a line, with the names of [`Row`]'s fields; times in nanoseconds.
    pub fn to_json_lines(&self) -> String {
        let mut lines = String::new();
        for row in &self.rows {
            row.write_json(&mut lines);
            lines.push('\n');
        }
        lines
    }
}

/// Which rows to see; what is `None` lets all pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// What happened to, or was done by, this process, or came from it or went to it.
    pub node: Option<NodeId>,
    /// Of this kind.
    pub verb: Option<Verb>,
    /// Not earlier.
    pub from: Option<Instant>,
    /// Earlier.
    pub to: Option<Instant>,
}

impl Filter {
    fn passes(&self, row: &Row) -> bool {
        self.node.is_none_or(|node| row.node == Some(node) || row.peer == Some(node))
            && self.verb.is_none_or(|verb| row.verb == verb)
            && self.from.is_none_or(|from| row.at >= from)
            && self.to.is_none_or(|to| row.at < to)
    }
}

impl Row {
    fn write_json(&self, out: &mut String) {
        let id = |node: Option<NodeId>| node.map_or_else(|| "null".to_owned(), |node| node.to_string());
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{{\"at\":{},\"step\":{},\"node\":{},\"verb\":\"{}\",\"peer\":{},\"fingerprint\":\"{:016x}\",",
            self.at.as_nanos(),
            self.step,
            id(self.node),
            self.verb.name(),
            id(self.peer),
            self.fingerprint
        );
        let word = |word: Option<u64>| word.map_or_else(|| "null".to_owned(), |word| word.to_string());
        let role = self.part.map_or_else(|| "null".to_owned(), |part| format!("\"{}\"", part.role));
        let (sent, term) = (word(self.sent.map(Instant::as_nanos)), word(self.part.map(|part| part.term)));
        let _ = write!(out, "\"sent\":{sent},\"role\":{role},\"term\":{term},\"text\":");
        write_json_string(&self.text, out);
        out.push('}');
    }
}

fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
