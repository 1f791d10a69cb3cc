//! A follower: takes the leader's entries (thesis §3.5).

use std::sync::Arc;

use super::machine::Raft;
use super::{Beat, Entries, Index, Message, Position, Record, Run};
use crate::id::NodeId;
use crate::protocol::Outbox;

impl Raft {
    /// Takes entries that follow `previous`, or says that it cannot.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of one message")]
    pub(super) fn append(
        &mut self,
        from: NodeId,
        previous: Position,
        commit: Index,
        matched: Index,
        joined: Index,
        beat: Option<Beat>,
        entries: Entries,
        out: &mut Outbox<Self>,
    ) {
        if !self.has(previous) {
            self.reject(from, previous, joined, beat, out);
            return;
        }
        if let Some(beat) = beat {
            self.answer_beat(from, beat, out);
            self.forwarded_reads.forward_late(self.now, self.settings.election_timeout / 2);
        }
        let end = entries.last().map_or(previous.index, |last| last.index);
        let asks = !entries.is_empty() || previous.index > matched;
        #[cfg(feature = "mutants")]
        if mutant!(self, TruncationBelowCommit) && end < self.log.last().index && end >= self.log.base().index
        {
            self.truncate(end + 1);
            self.commit = self.commit.min(end);
        }
        if !entries.is_empty() && !self.take(entries, out) {
            return;
        }
        // What the leader has committed beyond these entries may be other than what stands here (etcd#14143).
        let known = if mutant!(self, CommitBeyondALostTail) { self.log.last().index } else { end };
        self.commit = self.commit.max(commit.min(known));
        if asks {
            let so_far = self.acknowledge.map_or(0, |(so_far, _)| so_far);
            self.acknowledge = Some((so_far.max(end), joined));
            #[cfg(feature = "mutants")]
            if mutant!(self, DuplicateAppendAcknowledgedEarly) {
                self.acknowledge_early(from, out);
            }
        }
    }

    /// A mutant's: what brings nothing new seems to need no disk.
    #[cfg(feature = "mutants")]
    fn acknowledge_early(&mut self, from: NodeId, out: &mut Outbox<Self>) {
        let last_is_new = out
            .as_slice()
            .iter()
            .any(|effect| matches!(effect, crate::protocol::Effect::Persist(Record::Append(_))));
        if !last_is_new && let Some((matched, joined)) = self.acknowledge.take() {
            out.send(from, Message::Appended { term: self.hard.term, matched, joined });
        }
    }

    /// Whether the log has this entry. What is committed is the same everywhere.
    fn has(&self, entry: Position) -> bool {
        entry.index <= self.commit || self.log.term_at(entry.index) == Some(entry.term)
    }

    /// Says where the logs may agree: at its last entry of no later term than the leader's there.
    fn reject(
        &self,
        to: NodeId,
        previous: Position,
        joined: Index,
        beat: Option<Beat>,
        out: &mut Outbox<Self>,
    ) {
        let hint = self.log.agreement(previous.index, previous.term).unwrap_or_else(|| self.log.base());
        out.send(
            to,
            Message::Rejected { term: self.hard.term, previous: previous.index, hint, joined, beat },
        );
    }

    /// Appends what is new. Truncates only where a term differs, and never what is committed (nebula PR 2483).
    fn take(&mut self, entries: Entries, out: &mut Outbox<Self>) -> bool {
        let mut fresh = Entries::new();
        let mut changed = false;
        for run in entries {
            let Some(from) = self.first_new(&run, &fresh) else { continue };
            if from <= self.commit {
                return false; // it contradicts what is committed: no leader of ours says so
            }
            if from <= self.log.last().index {
                changed |= self.truncate(from);
            }
            let run = if from == run.first { run } else { Arc::new(run.slice(from, run.last())) };
            changed |= self.note_membership(&run);
            self.log.append(Arc::clone(&run));
            fresh.push(run);
        }
        if changed {
            self.tell_membership(out);
        }
        if !fresh.is_empty() {
            // The term first: no journal may hold an entry of a term that its member seems not to have reached.
            self.write_down(out);
            out.persist(Record::Append(fresh));
        }
        true
    }

    /// The first entry of `run` that the log has not.
    fn first_new(&self, run: &Run, fresh: &Entries) -> Option<Index> {
        let last = self.log.last().index;
        if !fresh.is_empty() || run.first == last + 1 {
            return Some(run.first);
        }
        // What is committed is skipped: it is the same.
        let start = run.first.max(self.commit + 1).max(self.log.base().index + 1);
        (start..=run.last()).find(|&index| self.log.term_at(index) != Some(run.term))
    }

    /// The end of a batch of a follower's inputs: one acknowledgement for all, when the disk has it all.
    pub(super) fn follow(&mut self, out: &mut Outbox<Self>) {
        let Some(leader) = self.leader else { return };
        if let Some((matched, joined)) = self.acknowledge.take() {
            out.promise(leader, Message::Appended { term: self.hard.term, matched, joined });
        }
        self.forward_reads(leader, out);
    }
}
