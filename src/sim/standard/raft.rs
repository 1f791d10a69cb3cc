//! What every world with a Raft inside is held to, whatever else runs around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use super::super::host::Seen;
use super::super::trace::of_hash;
use crate::check::{Consensus, Entry, Violation};
use crate::id::NodeId;
use crate::protocol::{Effect, Protocol};
use crate::raft::{
    Entries, Event, Index, Membership, Message, Payload, Position, Raft, Record, Role, Run, Snapshot,
};

/// Tells `check` what the Raft of each member does, in plain values.
#[derive(Clone, Debug, Default)]
pub struct RaftJudge {
    /// What Raft promises.
    pub consensus: Consensus,
    roles: BTreeMap<NodeId, (Role, u64)>,
}

/// A protocol with a Raft inside, whose records are Raft's own.
pub trait RaftInside: Protocol<Record = Record> {
    /// Its Raft.
    fn raft(&self) -> &Raft;

    /// What a message says to the Raft of who gets it.
    fn inner_message(message: &Self::Message) -> Option<&Message>;

    /// What an event says of the log.
    fn told(event: &Self::Event) -> Told<'_>;
}

impl RaftInside for Raft {
    fn raft(&self) -> &Raft {
        self
    }

    fn inner_message(message: &Message) -> Option<&Message> {
        Some(message)
    }

    fn told(event: &Event) -> Told<'_> {
        match event {
            Event::Committed(entries) => Told::Applies(entries),
            Event::Restore(snapshot) => Told::Restores(snapshot),
            Event::Install(snapshot) => Told::Installs(snapshot),
            Event::Membership(index, membership) => Told::Changes(*index, membership),
            Event::Halted(why) => Told::Halts(why),
            _ => Told::Nothing,
        }
    }
}

/// What an event says of the log.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// These take effect.
    Applies(&'a Entries),
    /// A life begins with the state of this snapshot.
    Restores(&'a Snapshot),
    /// The state is this snapshot's from now on.
    Installs(&'a Snapshot),
    /// This membership is effective, though it may not be committed.
    Changes(Index, &'a Membership),
    /// The member does nothing any more.
    Halts(&'static str),
    /// Nothing.
    Nothing,
}

impl RaftJudge {
    /// A life is about to begin from these records.
    pub(super) fn recovered(&mut self, node: NodeId, records: &[Record]) -> Result<(), Violation> {
        let (base, entries) = recall(records);
        self.consensus.recovered(node, base.index, base.term, entries)
    }

    /// A batch of inputs was handled.
    pub(super) fn handled<P: RaftInside, H>(&mut self, seen: &Seen<'_, P, H>) -> Result<(), Violation> {
        let (node, raft) = (seen.node, seen.machine.raft());
        let (role, term) = (raft.role(), raft.term());
        let before = self.roles.insert(node, (role, term));
        if before == Some((role, term)) {
            return Ok(());
        }
        if role == Role::Leader {
            return self.consensus.elected(node, term);
        }
        self.consensus.stepped_down(node);
        Ok(())
    }

    /// An effect happens.
    pub(super) fn effect<P: RaftInside, H>(
        &mut self,
        seen: &Seen<'_, P, H>,
        effect: &Effect<P>,
    ) -> Result<(), Violation> {
        match effect {
            Effect::Persist(record) | Effect::Checkpoint(record) => self.wrote(seen.node, record),
            Effect::Notify(event) => self.told(seen.node, P::told(event)),
            _ => Ok(()),
        }
    }

    /// A life has ended.
    pub(super) fn crashed(&mut self, node: NodeId) {
        self.roles.remove(&node);
        self.consensus.crashed(node);
    }

    fn wrote(&mut self, node: NodeId, record: &Record) -> Result<(), Violation> {
        match record {
            Record::Identity { .. } | Record::HardState(_) => Ok(()),
            Record::Append(entries) => match entries.first() {
                Some(first) => self.consensus.appended(node, first, plain(entries)),
                None => Ok(()),
            },
            Record::Checkpoint(checkpoint) => {
                let base = checkpoint.base;
                self.consensus.compacted(node, base.index, base.term)?;
                let last = checkpoint.entries.last().map_or(base.index, |last| last.index);
                self.consensus.appended(node, last + 1, [])
            }
        }
    }

    fn told(&mut self, node: NodeId, told: Told<'_>) -> Result<(), Violation> {
        match told {
            Told::Applies(entries) => match entries.first() {
                Some(first) => self.consensus.committed(node, first, plain(entries)),
                None => Ok(()),
            },
            Told::Restores(snapshot) | Told::Installs(snapshot) => {
                let last = snapshot.id.last;
                self.consensus.installed(node, last.index, last.term)
            }
            Told::Halts(why) => Err(Violation::new("no member halts", format!("{node:?}: {why}"))),
            Told::Changes(..) | Told::Nothing => Ok(()),
        }
    }
}

/// The log that these records hold: the entry before its first, and its entries.
fn recall(records: &[Record]) -> (Position, Vec<Entry>) {
    let (mut base, mut log) = (Position::default(), Vec::new());
    for record in records {
        match record {
            Record::Identity { .. } | Record::HardState(_) => {}
            Record::Append(entries) => {
                let first = entries.first().unwrap_or(base.index + 1);
                log.truncate(first.saturating_sub(base.index + 1) as usize);
                log.extend(plain(entries));
            }
            Record::Checkpoint(checkpoint) => {
                base = checkpoint.base;
                log = plain(&checkpoint.entries).collect();
            }
        }
    }
    (base, log)
}

fn plain(entries: &Entries) -> impl Iterator<Item = Entry> + '_ {
    entries.runs().iter().flat_map(|run: &Arc<Run>| {
        let term = run.term;
        let single = match &run.payload {
            Payload::Blank => Some(1),
            Payload::Membership(membership) => Some(of_hash(membership)),
            Payload::Commands(_) => None,
        };
        let commands = match &run.payload {
            Payload::Commands(batch) => Some(batch.iter().map(xxh3_64)),
            _ => None,
        };
        single.into_iter().chain(commands.into_iter().flatten()).map(move |digest| Entry { term, digest })
    })
}
