//! The application of a replica: a user's machine, made exactly-once, with its snapshots.

use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::codec::Command;
use super::sessions::Verdict;
use super::{Event, Limits, Outcome, Replica, Request, Sessions, Shelf, Token};
use crate::id::NodeId;
use crate::protocol::Application;
use crate::raft::{Entries, Index, Payload, Position, Snapshot, SnapshotId};
use crate::store::{LeaseChange, LeaseId, Pinned, Response, Revision, Store};
use crate::wire::{Decode, Encode, Malformed, Reader, VERSION};

/// What is replicated: a deterministic machine. It reads no clock, draws no randomness and depends on no hash order,
/// so that every member that applied the same commands is in the same state.
///
/// All but the first four verbs are for machines in which something waits, ends with time, or grows old.
pub trait StateMachine {
    /// Applies the command of the entry at `index`; whatever the bytes, every member must do the same. When the result
    /// comes with a later entry, [`StateMachine::take_woken`] names `index`.
    fn apply(&mut self, index: Index, command: &Bytes) -> Response;

    /// Answers a question from the state as it is, which it leaves as it is. When the answer comes later,
    /// [`StateMachine::take_watched`] names `token`.
    fn query(&mut self, token: Token, query: &Bytes) -> Response;

    /// All of the state.
    fn snapshot(&self) -> Vec<u8>;

    /// Becomes what `bytes` say; when they are malformed, stays as it is.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), Malformed>;

    /// The leader's clock says that a lease is over, if it still has that attachment. An entry, as a command is.
    fn expire(&mut self, lease: LeaseId, attachment: u64) {
        let _ = (lease, attachment);
    }

    /// The leader's clock says that history before `revision` is old. An entry, as a command is.
    fn compact(&mut self, revision: Revision) {
        let _ = revision;
    }

    /// Nobody waits for the answer to that query any more.
    fn forget(&mut self, token: Token) {
        let _ = token;
    }

    /// Whether the command at `ticket` still waits.
    fn is_waiting(&self, ticket: Index) -> bool {
        let _ = ticket;
        false
    }

    /// Takes the commands that have waited and have a result now.
    fn take_woken(&mut self) -> Vec<(Index, Bytes)> {
        Vec::new()
    }

    /// Takes the queries that have waited and have an answer now.
    fn take_watched(&mut self) -> Vec<(Token, Bytes)> {
        Vec::new()
    }

    /// Takes what has changed of its leases, in order.
    fn take_lease_changes(&mut self) -> Vec<LeaseChange> {
        Vec::new()
    }

    /// All leases that it has.
    fn leases(&self) -> Vec<LeaseChange> {
        Vec::new()
    }

    /// How far its history has come; `None`: it has none that could grow old.
    fn revision(&self) -> Option<Revision> {
        None
    }
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
    /// The revision that the replica was told last.
    noted: Revision,
    damage: Option<&'static str>,
}

/// How many revisions pass before the replica hears of them: it measures the age of history no more finely.
const NOTED_EVERY: Revision = 64;

/// Where what is summed begins: behind the version.
const SUMMED_FROM: usize = size_of::<u16>();

impl<S: StateMachine> Machine<S> {
    /// Member `id`'s machine, at the start of a life: `state` is empty, `shelf` is what the lives before left.
    pub const fn open(id: NodeId, state: S, limits: Limits, shelf: Shelf) -> Self {
        let sessions = Sessions::new(limits);
        Self { id, state, sessions, applied: Position { term: 0, index: 0 }, shelf, noted: 0, damage: None }
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
            Event::Query { token, query } => match self.state.query(token, &query) {
                Response::Now(result) => vec![Request::Queried { token, result }],
                Response::Later => vec![Request::Held { token }],
            },
            Event::Forget(token) => {
                self.state.forget(token);
                Vec::new()
            }
            Event::Parked(tickets) => self.recall(tickets),
            Event::Restore(snapshot) => {
                // An earlier life may have had no time to discard what went before.
                self.shelf.discard_before(snapshot.id.last);
                self.become_snapshot(&snapshot)
            }
            Event::Install(snapshot) => {
                self.shelf.discard_parts_before(snapshot.id.last);
                self.become_snapshot(&snapshot)
            }
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
        let mut woken = Vec::new();
        for run in entries.runs() {
            match &run.payload {
                Payload::Blank | Payload::Membership(_) if wanted => outcomes.push(Outcome::Nothing),
                Payload::Blank | Payload::Membership(_) => {}
                Payload::Commands(commands) => {
                    for (index, command) in (run.first..).zip(commands.shared()) {
                        let outcome = self.apply_one(index, &command);
                        self.settle(&mut woken);
                        if wanted {
                            outcomes.push(outcome);
                        }
                    }
                }
            }
        }
        self.applied = last;
        let mut requests = Vec::with_capacity(1);
        // Leases first: once it is known that an entry is applied, what it granted must be known.
        requests.extend(self.note(false));
        requests.push(Request::Applied { through: last.index, outcomes });
        if !woken.is_empty() {
            requests.push(Request::Woken(woken));
        }
        requests.extend(self.watched());
        requests
    }

    fn apply_one(&mut self, index: Index, entry: &Bytes) -> Outcome {
        match Command::decode(entry) {
            Some(Command::Plain(command)) => match self.state.apply(index, &entry.slice_ref(command)) {
                Response::Now(result) => Outcome::Result { index, result },
                Response::Later => Outcome::Waiting { ticket: index },
            },
            Some(Command::Stamped(stamp, command)) => match self.sessions.admit(index, stamp) {
                Verdict::Known(outcome) => outcome,
                Verdict::Fresh => match self.state.apply(index, &entry.slice_ref(command)) {
                    Response::Now(result) => {
                        self.sessions.keep(index, stamp, result.clone());
                        Outcome::Result { index, result }
                    }
                    Response::Later => {
                        self.sessions.keep_waiting(index, stamp);
                        Outcome::Waiting { ticket: index }
                    }
                },
            },
            Some(Command::Open) => self.sessions.open(index),
            Some(Command::Close(session)) => self.sessions.close(session),
            Some(Command::Expire { lease, attachment }) => {
                self.state.expire(lease, attachment);
                Outcome::Nothing
            }
            Some(Command::Compact(revision)) => {
                self.state.compact(revision);
                Outcome::Nothing
            }
            None => Outcome::Malformed,
        }
    }

    /// Those who waited for what the entry has done have their results: for a duplicate in the very next entry, too.
    fn settle(&mut self, woken: &mut Vec<(Index, Option<Bytes>)>) {
        for (ticket, result) in self.state.take_woken() {
            self.sessions.settle(ticket, &result);
            woken.push((ticket, Some(result)));
        }
    }

    /// Those of the tickets that do not wait in the state as it is, with their results as far as a session kept them.
    fn recall(&self, tickets: Vec<Index>) -> Vec<Request> {
        let gone = tickets.into_iter().filter(|ticket| !self.state.is_waiting(*ticket));
        let woken: Vec<_> = gone.map(|ticket| (ticket, self.sessions.result_at(ticket))).collect();
        if woken.is_empty() { Vec::new() } else { vec![Request::Woken(woken)] }
    }

    fn watched(&mut self) -> impl Iterator<Item = Request> + use<S> {
        let watched = self.state.take_watched();
        watched.into_iter().map(|(token, result)| Request::Queried { token, result })
    }

    /// What the replica must know of leases and of history, if there is news.
    fn note(&mut self, anew: bool) -> Option<Request> {
        let changes = self.state.take_lease_changes();
        let leases = if anew { self.state.leases() } else { changes };
        let revision = self.state.revision().unwrap_or(0);
        let due = revision >= self.noted + NOTED_EVERY;
        if leases.is_empty() && !due && !(anew && revision > 0) {
            return None;
        }
        self.noted = revision;
        Some(Request::Noted { anew, leases, revision })
    }

    fn make_snapshot(&mut self) -> Vec<Request> {
        let id = SnapshotId { last: self.applied, by: self.id };
        let bytes = self.to_snapshot();
        let length = bytes.len() as u64;
        self.shelf.put(id, bytes.into());
        vec![Request::Snapshotted { last: self.applied.index, length }]
    }

    /// The sessions, then the state, before a checksum: a damaged snapshot must not become a state.
    fn to_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        VERSION.encode(&mut bytes);
        self.sessions.encode(&mut bytes);
        bytes.extend_from_slice(&self.state.snapshot());
        xxh3_64(&bytes[SUMMED_FROM..]).encode(&mut bytes);
        bytes
    }

    fn become_snapshot(&mut self, snapshot: &Snapshot) -> Vec<Request> {
        let bytes = self.shelf.finished(snapshot);
        self.install(snapshot, bytes)
    }

    /// Becomes what a snapshot says, whose bytes a driver has that keeps them elsewhere than on the shelf; `None`: it has
    /// them not.
    pub fn install(&mut self, snapshot: &Snapshot, bytes: Option<Bytes>) -> Vec<Request> {
        let Some(bytes) = bytes else { return self.damaged("the snapshot is not there") };
        match self.restore(bytes) {
            Ok(()) => {}
            Err(Malformed { what: Malformed::UNKNOWN_VERSION, .. }) => {
                return self.damaged(
                    "the snapshot is of a version that this build does not read; start a later build",
                );
            }
            Err(_) => return self.damaged("the snapshot is damaged"),
        }
        self.applied = snapshot.id.last;
        let mut requests: Vec<Request> = self.note(true).into_iter().collect();
        requests.push(Request::Applied { through: self.applied.index, outcomes: Vec::new() });
        requests.extend(self.watched());
        requests
    }

    fn restore(&mut self, bytes: Bytes) -> Result<(), Malformed> {
        let mut input = Reader::versioned(bytes)?;
        let length = input.remaining().checked_sub(size_of::<u64>());
        let body = input.take(length.ok_or_else(|| input.malformed("a checksum"))?)?;
        if input.u64()? != xxh3_64(&body) {
            return Err(input.malformed("what was summed before this"));
        }
        let mut input = Reader::new(body, input.version());
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

/// A snapshot of a store that is written in pieces while entries go on being applied: what a driver does whose store is
/// large. It is restored as one that [`Event::MakeSnapshot`] makes at once.
pub struct Writing {
    id: SnapshotId,
    version: u16,
    head: Vec<u8>,
    pinned: Pinned,
    sum: Xxh3,
}

impl Writing {
    /// The name of the snapshot.
    pub const fn id(&self) -> SnapshotId {
        self.id
    }

    /// Whether all of it was written. When there is no more, and it is not whole, a snapshot has come in the place of
    /// the state.
    pub const fn is_whole(&self) -> bool {
        self.pinned.is_whole()
    }
}

impl Machine<Store> {
    /// Holds on to what is applied now, to be written in this version.
    pub fn begin_snapshot(&mut self, version: u16) -> Writing {
        let id = SnapshotId { last: self.applied, by: self.id };
        let mut head = Vec::new();
        self.sessions.encode(&mut head);
        Writing { id, version, head, pinned: self.state.pin(version), sum: Xxh3::new() }
    }

    /// Appends the next piece, of about so many bytes; whether there is more.
    pub fn write_snapshot(&mut self, writing: &mut Writing, bytes: usize, out: &mut Vec<u8>) -> bool {
        if writing.is_whole() {
            return false;
        }
        if !writing.head.is_empty() {
            writing.version.encode(out);
        }
        let start = out.len();
        out.append(&mut writing.head);
        let more = self.state.write(&mut writing.pinned, bytes, out);
        writing.sum.update(&out[start..]);
        if writing.is_whole() {
            writing.sum.digest().encode(out);
        }
        more
    }

    /// Lets go of it, written out or not.
    pub fn end_snapshot(&mut self, writing: Writing) {
        self.state.unpin(writing.pinned);
    }
}
