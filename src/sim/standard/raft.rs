//! What every world with a Raft inside is held to, whatever else runs around it.

use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use super::super::faults::VOTER;
use super::super::host::Seen;
use super::super::trace::of_hash;
use crate::check::{Consensus, Entry, Leases, Violation, Votes};
use crate::id::NodeId;
use crate::protocol::{Effect, Protocol};
use crate::raft::{
    Entries, Event, HardState, Index, Membership, Message, Payload, Position, Raft, Record, Role, Run,
    Snapshot, Term,
};
use crate::time::Instant;

/// Tells `check` what the Raft of each member does, in plain values.
#[derive(Clone, Debug, Default)]
pub struct RaftJudge {
    /// What Raft promises.
    pub consensus: Consensus,
    /// To whom members have given their votes.
    pub votes: Votes,
    /// Who has promised to vote for nobody, and who counts on it.
    pub leases: Leases,
    roles: BTreeMap<NodeId, Part>,
    /// By member: the entry that set its membership.
    changed: BTreeMap<NodeId, Index>,
}

/// What a member was when it was last seen.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    role: Role,
    term: Term,
    commit: Index,
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
        let hard = hard_state(records);
        self.votes.recovered(node, hard.term, hard.vote)?;
        self.consensus.recovered(node, base.index, base.term, entries)
    }

    /// A batch of inputs was handled.
    pub(super) fn handled<P: RaftInside, H>(&mut self, seen: &Seen<'_, P, H>) -> Result<(), Violation> {
        self.plays(seen.at, seen.node, seen.machine.raft())
    }

    /// An effect happens.
    pub(super) fn effect<P: RaftInside, H>(
        &mut self,
        seen: &Seen<'_, P, H>,
        effect: &Effect<P>,
    ) -> Result<(), Violation> {
        let (at, node, raft) = (seen.at, seen.node, seen.machine.raft());
        match effect {
            Effect::Persist(record) | Effect::Checkpoint(record) => {
                if let Record::Append(entries) = record {
                    self.changes(node, raft, entries)?;
                }
                self.wrote(node, record)
            }
            Effect::Send(to, message) => match P::inner_message(message) {
                Some(message) => {
                    self.gives(at, node, message)?;
                    self.said(at, node, raft, *to, message)
                }
                None => Ok(()),
            },
            Effect::Promise(_, message) => {
                P::inner_message(message).map_or(Ok(()), |message| self.gives(at, node, message))
            }
            Effect::Notify(event) => self.told(node, P::told(event)),
            _ => Ok(()),
        }
    }

    /// A promise leaves.
    pub(super) fn promised<P: RaftInside, H>(
        &mut self,
        seen: &Seen<'_, P, H>,
        to: NodeId,
        message: &P::Message,
    ) -> Result<(), Violation> {
        match P::inner_message(message) {
            Some(message) => self.said(seen.at, seen.node, seen.machine.raft(), to, message),
            None => Ok(()),
        }
    }

    /// Whom a fault befalls that aims at a leader, or at a voter.
    pub(super) fn target(&self, whom: NodeId) -> Option<NodeId> {
        if whom == VOTER {
            return self.votes.latest();
        }
        let leaders = self.roles.iter().filter(|(_, part)| part.role == Role::Leader);
        leaders.max_by_key(|(_, part)| part.term).map(|(node, _)| *node)
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
            Told::Restores(snapshot) => {
                let last = snapshot.id.last;
                self.consensus.restored(node, last.index, last.term)
            }
            Told::Installs(snapshot) => {
                let last = snapshot.id.last;
                self.consensus.installed(node, last.index, last.term)
            }
            Told::Halts(why) => Err(Violation::new("no member halts", format!("{node:?}: {why}"))),
            Told::Changes(index, _) => {
                self.changed.insert(node, index);
                Ok(())
            }
            Told::Nothing => Ok(()),
        }
    }

    fn plays(&mut self, at: Instant, node: NodeId, machine: &Raft) -> Result<(), Violation> {
        let (role, term, commit) = (machine.role(), machine.term(), machine.commit());
        let before = self.roles.insert(node, Part { role, term, commit });
        let stays = before.is_some_and(|before| before.role == role && before.term == term);
        if role != Role::Leader {
            if before.is_some_and(|before| before.role == Role::Leader) {
                self.leases.counts_on_none(node);
            }
            if !stays {
                self.consensus.stepped_down(node);
            }
            return Ok(());
        }
        if !stays {
            self.consensus.elected(node, term)?;
            self.leases.elected(node, term, at)?;
        } else if before.is_some_and(|before| before.commit < commit) {
            // Its log is known up to what it appended before: what a quorum stores is in there.
            self.consensus.counted(node, commit)?;
        }
        self.counts(at, node, machine)
    }

    /// What a leader counts on, and what was promised.
    fn counts(&mut self, at: Instant, node: NodeId, machine: &Raft) -> Result<(), Violation> {
        let Some(left) = machine.lease_left() else {
            if machine.settings().lease.is_some() {
                self.leases.counts_on_none(node);
            }
            return Ok(());
        };
        let until = |voter| if voter == node { Instant::NEVER } else { self.leases.promised_until(voter) };
        let promised = machine.membership().reached(until).unwrap_or(Instant::NEVER);
        self.leases.counts(node, machine.term(), at, left, promised)
    }

    /// A message leaves. What it promises must never be forgotten.
    fn said(
        &mut self,
        at: Instant,
        node: NodeId,
        machine: &Raft,
        to: NodeId,
        message: &Message,
    ) -> Result<(), Violation> {
        match *message {
            Message::Vote { term, granted: true } => self.votes.voted(node, term, to),
            Message::RequestVote { term, .. } => self.votes.voted(node, term, node),
            // What it wrote for a later leader may have replaced this.
            Message::Appended { term, matched: index, .. } | Message::Stored { term, last: index }
                if term == machine.term() =>
            {
                self.consensus.acknowledged(node, index);
                Ok(())
            }
            Message::Heard { term, beat, lease: true } => {
                if let Some(lease) = machine.settings().lease {
                    self.leases.granted(node, at, (term, beat.round), lease.length, lease.drift);
                }
                Ok(())
            }
            Message::TimeoutNow { term, round } => {
                self.leases.given_back(term, round);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A vote is given, though it may not have left yet.
    fn gives(&self, at: Instant, node: NodeId, message: &Message) -> Result<(), Violation> {
        match message {
            Message::Vote { granted: true, .. } | Message::RequestVote { .. } => self.leases.voted(node, at),
            _ => Ok(()),
        }
    }

    /// A leader's new membership follows one that is committed.
    fn changes(&self, node: NodeId, machine: &Raft, entries: &Entries) -> Result<(), Violation> {
        let own =
            |run: &Arc<Run>| matches!(run.payload, Payload::Membership(_)) && run.term == machine.term();
        if machine.role() == Role::Leader && entries.runs().iter().any(own) {
            let before = self.changed.get(&node).copied().unwrap_or(0);
            return self.consensus.changes(node, before, machine.commit());
        }
        Ok(())
    }
}

/// The last term and vote that these records hold.
fn hard_state(records: &[Record]) -> HardState {
    let hard = |record: &Record| match record {
        Record::HardState(hard) => Some(*hard),
        Record::Checkpoint(checkpoint) => Some(checkpoint.hard),
        _ => None,
    };
    records.iter().rev().find_map(hard).unwrap_or_default()
}

/// The log that these records hold: the entry before its first, and its entries.
pub fn recall<'a>(records: impl IntoIterator<Item = &'a Record>) -> (Position, Vec<Entry>) {
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

/// Entries as a judge takes them.
pub fn plain(entries: &Entries) -> impl Iterator<Item = Entry> + '_ {
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
