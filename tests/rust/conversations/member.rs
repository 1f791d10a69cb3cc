//! A member of the conversation's cluster: machine, disk, alarms, application.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use coterie::id::NodeId;
use coterie::raft::{
    Entries, Event, Index, Message, Payload, Position, Raft, Record, Request, Run, Snapshot, SnapshotId,
    Term, Timer,
};
use coterie::time::Instant;

pub(super) struct Member {
    /// `None` while it is down.
    pub(super) machine: Option<Raft>,
    pub(super) paused: bool,
    pub(super) lives: u64,
    pub(super) disk: Disk,
    pub(super) alarms: BTreeMap<Timer, Instant>,
    pub(super) application: Application,
}

impl Member {
    pub(super) fn new(records: Vec<Record>) -> Self {
        Self {
            machine: None,
            paused: false,
            lives: 0,
            disk: Disk { durable: records, ..Disk::default() },
            alarms: BTreeMap::new(),
            application: Application::default(),
        }
    }

    /// Whether it takes input now.
    pub(super) const fn awake(&self) -> bool {
        self.machine.is_some() && !self.paused
    }
}

/// A journal whose end may not be durable yet, and the promises that wait for it.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) durable: Vec<Record>,
    pub(super) queued: Vec<Record>,
    /// Each with how many queued records it waits for.
    pub(super) promises: VecDeque<(usize, NodeId, Message)>,
    /// Requests of the application that wait for its own writes.
    pub(super) written: Vec<Request>,
    pub(super) held: bool,
}

impl Disk {
    pub(super) fn promise(&mut self, to: NodeId, message: Message) {
        self.promises.push_back((self.queued.len(), to, message));
    }

    /// All that was queued is durable; hands out the promises that waited for it.
    pub(super) fn sync(&mut self) -> Vec<(NodeId, Message)> {
        self.keep(self.queued.len());
        self.promises.drain(..).map(|(_, to, message)| (to, message)).collect()
    }

    /// A crash: of what was not durable the first `keep` records survive, and no promise leaves any more.
    pub(super) fn crash(&mut self, keep: usize) {
        self.keep(keep.min(self.queued.len()));
        self.queued.clear();
        self.promises.clear();
        self.written.clear();
    }

    fn keep(&mut self, count: usize) {
        for record in self.queued.drain(..count) {
            if matches!(record, Record::Checkpoint(_)) {
                self.durable.clear();
            }
            self.durable.push(record);
        }
    }

    /// The term of which the disk knows.
    pub(super) fn durable_term(&self) -> Term {
        let terms = self.durable.iter().filter_map(|record| match record {
            Record::HardState(hard) => Some(hard.term),
            Record::Checkpoint(checkpoint) => Some(checkpoint.hard.term),
            Record::Identity { .. } | Record::Append(_) => None,
        });
        terms.fold(0, |_, later| later)
    }

    /// The log as the machine must see it: from all records, durable or not.
    pub(super) fn log(&self) -> Log {
        let mut log = Log::default();
        for record in self.durable.iter().chain(&self.queued) {
            match record {
                Record::Append(entries) => log.append(entries),
                Record::Checkpoint(checkpoint) => {
                    log = Log { base: checkpoint.base, entries: Vec::new() };
                    log.append(&checkpoint.entries);
                }
                Record::Identity { .. } | Record::HardState(_) => {}
            }
        }
        log
    }
}

/// A log entry by entry, as the naive twin keeps it.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Log {
    pub(super) base: Position,
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) index: Index,
    pub(super) term: Term,
    pub(super) payload: Payload,
}

impl Log {
    fn append(&mut self, entries: &Entries) {
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first);
        }
        self.entries.extend(one_by_one(entries));
    }

    pub(super) fn at(&self, index: Index) -> Option<&Entry> {
        let place = index.checked_sub(self.base.index + 1)?;
        self.entries.get(place as usize)
    }

    pub(super) fn last(&self) -> Position {
        self.entries.last().map_or(self.base, |entry| Position { term: entry.term, index: entry.index })
    }

    /// `1,1,4`: the terms of the entries after the base.
    pub(super) fn terms(&self) -> String {
        self.entries.iter().map(|entry| entry.term.to_string()).collect::<Vec<_>>().join(",")
    }
}

pub(super) fn one_by_one(entries: &Entries) -> Vec<Entry> {
    let each = |run: &Arc<Run>| {
        let run = Arc::clone(run);
        (run.first..=run.last()).map(move |index| Entry {
            index,
            term: run.term,
            payload: run.slice(index, index).payload,
        })
    };
    entries.runs().iter().flat_map(each).collect()
}

/// Keeps the commands in their order; its snapshots are these, one a line.
#[derive(Default)]
pub(super) struct Application {
    pub(super) state: Vec<(Index, String)>,
    pub(super) applied: Position,
    /// The terms of what was applied in this life, to name snapshots by.
    terms: BTreeMap<Index, Term>,
    /// Survive a crash.
    snapshots: BTreeMap<SnapshotId, Vec<u8>>,
}

impl Application {
    /// Hears of an event; asks, perhaps.
    pub(super) fn hear(&mut self, event: &Event) -> Result<Option<Request>, String> {
        match event {
            Event::Committed(entries) => self.apply(entries)?,
            Event::Restore(snapshot) | Event::Install(snapshot) => self.install(snapshot)?,
            Event::Read { snapshot, offset, length, to } => {
                let bytes = self.snapshots.get(snapshot);
                let range = *offset as usize..(offset + length) as usize;
                let data = bytes.and_then(|bytes| bytes.get(range)).map(|data| data.to_vec().into());
                return Ok(Some(Request::Chunk { snapshot: *snapshot, offset: *offset, to: *to, data }));
            }
            Event::Write { snapshot, offset, data } => {
                let bytes = self.snapshots.entry(snapshot.id).or_default();
                // A gap cannot be filled; what is there is told, and the leader goes on from there.
                if *offset as usize <= bytes.len() {
                    bytes.truncate(*offset as usize);
                    bytes.extend_from_slice(data);
                }
                return Ok(Some(Request::Written { snapshot: snapshot.id, offset: bytes.len() as u64 }));
            }
            Event::Discard(snapshot) => drop(self.snapshots.remove(snapshot)),
            Event::Role { .. } | Event::Membership(..) | Event::MakeSnapshot | Event::Halted(_) => {}
        }
        Ok(None)
    }

    fn apply(&mut self, entries: &Entries) -> Result<(), String> {
        for Entry { index, term, payload } in one_by_one(entries) {
            if index != self.applied.index + 1 {
                return Err(format!("entry {term}/{index} was committed after {}", self.applied));
            }
            self.applied = Position { term, index };
            self.terms.insert(index, term);
            if let Payload::Commands(batch) = payload {
                let command = batch.iter().next().unwrap_or_default();
                self.state.push((index, String::from_utf8_lossy(command).into_owned()));
            }
        }
        Ok(())
    }

    fn install(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        let Some(bytes) =
            self.snapshots.get(&snapshot.id).filter(|bytes| bytes.len() as u64 == snapshot.length)
        else {
            return Err(format!("snapshot {snapshot} is not whole here"));
        };
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.applied = snapshot.id.last;
        self.state = text.lines().map(|command| (self.applied.index, command.to_owned())).collect();
        Ok(())
    }

    /// Makes a snapshot of what was applied through `last`.
    pub(super) fn snapshot(&mut self, by: NodeId, last: Index) -> u64 {
        let covered = self.state.iter().filter(|(index, _)| *index <= last);
        let bytes: Vec<u8> = covered.flat_map(|(_, command)| format!("{command}\n").into_bytes()).collect();
        let length = bytes.len() as u64;
        let term = self.terms.get(&last).copied().unwrap_or_default();
        self.snapshots.insert(SnapshotId { last: Position { term, index: last }, by }, bytes);
        length
    }

    /// A new life begins without state; the snapshots are still there.
    pub(super) fn forget(&mut self) {
        *self = Self { snapshots: std::mem::take(&mut self.snapshots), ..Self::default() };
    }

    pub(super) fn commands(&self) -> Vec<&str> {
        self.state.iter().map(|(_, command)| command.as_str()).collect()
    }
}
