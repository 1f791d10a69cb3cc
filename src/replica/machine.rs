//! The application of a replica: a user's machine, made exactly-once, with its snapshots.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use super::codec::Command;
use super::sessions::Verdict;
use super::{Event, Limits, Outcome, Replica, Request, Sessions, Shelf};
use crate::id::NodeId;
use crate::protocol::Application;
use crate::raft::{Entries, Index, Payload, Position, Snapshot, SnapshotId};
use crate::wire::{Decode, Encode, Malformed, Reader};

/// What is replicated: a deterministic machine. It reads no clock, draws no randomness and depends on no hash order,
/// so that every member that applied the same commands is in the same state.
pub trait StateMachine {
    /// Applies the command of the entry at `index`; whatever the bytes, every member must do the same.
    fn apply(&mut self, index: Index, command: &[u8]) -> Bytes;

    /// Answers a question from the state as it is.
    fn query(&self, query: &[u8]) -> Bytes;

    /// All of the state.
    fn snapshot(&self) -> Vec<u8>;

    /// Becomes what `bytes` say; when they are malformed, stays as it is.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), Malformed>;
}

/// A state machine with its table of sessions and its shelf of snapshots: the application of a
/// [`Replica`].
#[derive(Clone, Debug)]
pub struct Machine<S> {
    id: NodeId,
    state: S,
    sessions: Sessions,
    applied: Position,
    shelf: Shelf,
    damage: Option<&'static str>,
}

/// The version of snapshots.
const VERSION: u16 = 1;

impl<S: StateMachine> Machine<S> {
    /// Member `id`'s machine, at the start of a life: `state` is empty, `shelf` is what the lives before left.
    pub const fn open(id: NodeId, state: S, limits: Limits, shelf: Shelf) -> Self {
        let sessions = Sessions::new(limits);
        Self { id, state, sessions, applied: Position { term: 0, index: 0 }, shelf, damage: None }
    }

    /// Ends the life; what survives is on the shelf.
    pub fn crash(self) -> Shelf {
        self.shelf
    }

    /// The user's machine.
    pub const fn state(&self) -> &S {
        &self.state
    }

    /// The sessions.
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The last entry that was applied.
    pub const fn applied(&self) -> Position {
        self.applied
    }

    /// The snapshots.
    pub const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// What is broken. A damaged machine applies and answers nothing; the replica halts.
    pub const fn damage(&self) -> Option<&'static str> {
        self.damage
    }
}

impl<S: StateMachine> Application<Replica> for Machine<S> {
    fn hear(&mut self, event: Event) -> Vec<Request> {
        if self.damage.is_some() {
            return Vec::new();
        }
        match event {
            Event::Apply { entries, wanted } => self.apply(&entries, wanted),
            Event::Query { token, query } => {
                vec![Request::Queried { token, result: self.state.query(&query) }]
            }
            Event::Restore(snapshot) => {
                // An earlier life may have had no time to discard what went before.
                self.shelf.discard_before(snapshot.id.last);
                self.become_snapshot(&snapshot)
            }
            Event::Install(snapshot) => self.become_snapshot(&snapshot),
            Event::MakeSnapshot => self.make_snapshot(),
            Event::Read { snapshot, offset, length, to } => {
                let data = self.shelf.read(snapshot, offset, length);
                vec![Request::Chunk { snapshot, offset, to, data }]
            }
            Event::Write { snapshot, offset, data } => {
                let offset = self.shelf.write(&snapshot, offset, &data);
                vec![Request::Written { snapshot: snapshot.id, offset }]
            }
            Event::Discard(snapshot) => {
                self.shelf.discard(snapshot);
                Vec::new()
            }
            Event::Role { .. } | Event::Membership(..) | Event::Halted(_) => Vec::new(),
        }
    }
}

impl<S: StateMachine> Machine<S> {
    fn apply(&mut self, entries: &Entries, wanted: bool) -> Vec<Request> {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Vec::new() };
        if first != self.applied.index + 1 {
            return self.damaged("entries that do not follow what is applied");
        }
        let mut outcomes = Vec::with_capacity(if wanted { entries.len() as usize } else { 0 });
        for run in entries.runs() {
            match &run.payload {
                Payload::Blank | Payload::Membership(_) if wanted => outcomes.push(Outcome::Nothing),
                Payload::Blank | Payload::Membership(_) => {}
                Payload::Commands(commands) => {
                    for (index, command) in (run.first..).zip(commands.iter()) {
                        let outcome = self.apply_one(index, command);
                        if wanted {
                            outcomes.push(outcome);
                        }
                    }
                }
            }
        }
        self.applied = last;
        vec![Request::Applied { through: last.index, outcomes }]
    }

    fn apply_one(&mut self, index: Index, entry: &[u8]) -> Outcome {
        match Command::decode(entry) {
            Some(Command::Plain(command)) => {
                Outcome::Result { index, result: self.state.apply(index, command) }
            }
            Some(Command::Stamped(stamp, command)) => match self.sessions.admit(index, stamp) {
                Verdict::Known(outcome) => outcome,
                Verdict::Fresh => {
                    let result = self.state.apply(index, command);
                    self.sessions.keep(index, stamp, result.clone());
                    Outcome::Result { index, result }
                }
            },
            Some(Command::Open) => self.sessions.open(index),
            Some(Command::Close(session)) => self.sessions.close(session),
            None => Outcome::Malformed,
        }
    }

    fn make_snapshot(&mut self) -> Vec<Request> {
        let id = SnapshotId { last: self.applied, by: self.id };
        let bytes = self.to_snapshot();
        let length = bytes.len() as u64;
        self.shelf.put(id, bytes.into());
        vec![Request::Snapshotted { last: self.applied.index, length }]
    }

    /// The sessions, then the state, behind a checksum: a damaged snapshot must not become a state.
    fn to_snapshot(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.sessions.encode(&mut body);
        body.extend_from_slice(&self.state.snapshot());
        let mut bytes = Vec::with_capacity(body.len() + 10);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&xxh3_64(&body).to_le_bytes());
        bytes.append(&mut body);
        bytes
    }

    fn become_snapshot(&mut self, snapshot: &Snapshot) -> Vec<Request> {
        let Some(bytes) = self.shelf.finished(snapshot) else {
            return self.damaged("the snapshot is not on the shelf");
        };
        if self.restore(bytes).is_err() {
            return self.damaged("the snapshot is damaged");
        }
        self.applied = snapshot.id.last;
        vec![Request::Applied { through: self.applied.index, outcomes: Vec::new() }]
    }

    fn restore(&mut self, bytes: Bytes) -> Result<(), Malformed> {
        let mut input = Reader::new(bytes, VERSION);
        if input.u16()? != VERSION {
            return Err(input.malformed("a version of ours before this"));
        }
        let checksum = input.u64()?;
        let body = input.take(input.remaining())?;
        if xxh3_64(&body) != checksum {
            return Err(input.malformed("what was summed"));
        }
        let mut input = Reader::new(body, VERSION);
        let sessions = Sessions::decode(&mut input)?;
        let state = input.take(input.remaining())?;
        self.state.restore(&state)?;
        self.sessions = sessions;
        Ok(())
    }

    fn damaged(&mut self, what: &'static str) -> Vec<Request> {
        self.damage = Some(what);
        vec![Request::Damaged(what)]
    }
}
