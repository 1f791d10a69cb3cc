//! The log: runs of entries since the last compaction, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Entries, Index, Position, Run, Term};

/// How far one looks back run by run before the binary search.
const STRIDE_MAX: usize = 8;

/// Entries after `base`, which stands for all that a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Log {
    base: Position,
    last: Position,
    runs: VecDeque<Arc<Run>>,
    bytes: usize,
}

impl Log {
    /// A log that begins after `base`.
    pub(super) fn after(base: Position) -> Self {
        Self { base, last: base, ..Self::default() }
    }

    /// The entry before the first.
    pub(super) const fn base(&self) -> Position {
        self.base
    }

    /// The last entry; the base when there is none.
    #[inline]
    pub(super) const fn last(&self) -> Position {
        self.last
    }

    /// What the entries weigh.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the run that holds `index`.
    #[inline]
    fn run_at(&self, index: Index) -> Option<usize> {
        if index <= self.base.index || index > self.last.index {
            return None;
        }
        // Most questions are about the end: look back from there, in strides that double.
        let mut high = self.runs.len();
        let mut stride = 1;
        loop {
            let low = high.saturating_sub(stride);
            if self.runs[low].first <= index {
                let found = self.runs.range(low..high).position(|run| run.first > index);
                return Some(found.map_or(high, |more| low + more) - 1);
            }
            if stride > STRIDE_MAX {
                return Some(self.runs.partition_point(|run| run.first <= index) - 1);
            }
            (high, stride) = (low, stride * 2);
        }
    }

    /// The term of the entry at `index`, when it is the base or after it.
    #[inline]
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.last.index {
            return Some(self.last.term);
        }
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.run_at(index).map(|at| self.runs[at].term)
    }

    /// The entry at `index`, when its term is known.
    #[inline]
    pub(super) fn position(&self, index: Index) -> Option<Position> {
        self.term_at(index).map(|term| Position { term, index })
    }

    /// Adds a run that follows the last entry.
    #[inline]
    pub(super) fn append(&mut self, run: Arc<Run>) {
        debug_assert_eq!(run.first, self.last.index + 1);
        self.last = Position { term: run.term, index: run.last() };
        self.bytes += run.bytes();
        self.runs.push_back(run);
    }

    /// Drops the entry at `from` and all after it.
    pub(super) fn truncate(&mut self, from: Index) {
        while let Some(run) = self.runs.pop_back() {
            self.bytes -= run.bytes();
            if run.first < from {
                let kept = run.slice(run.first, from - 1);
                self.bytes += kept.bytes();
                self.runs.push_back(Arc::new(kept));
                break;
            }
        }
        self.last = self.runs.back().map_or(self.base, |run| Position { term: run.term, index: run.last() });
    }

    /// Drops the entries through `through`, which becomes the base.
    pub(super) fn compact(&mut self, through: Index) {
        let Some(base) = self.position(through) else { return };
        while let Some(run) = self.runs.pop_front() {
            self.bytes -= run.bytes();
            if run.last() > through {
                let kept = run.slice(through + 1, run.last());
                self.bytes += kept.bytes();
                self.runs.push_front(Arc::new(kept));
                break;
            }
        }
        self.base = base;
    }

    /// The index after which the entries through `through` weigh no more than `bytes`, run by run.
    pub(super) fn within(&self, through: Index, bytes: usize) -> Index {
        let mut left = bytes;
        for run in self.runs.iter().rev().skip_while(|run| run.first > through) {
            let Some(rest) = left.checked_sub(run.bytes()) else { return run.last().min(through) };
            left = rest;
        }
        self.base.index
    }

    /// The entries from `from` through `through`, as many as fit into `bytes`; one at least, when there is one.
    pub(super) fn entries(&self, from: Index, through: Index, bytes: usize) -> Entries {
        let mut entries = Entries::new();
        let Some(start) = self.run_at(from) else { return entries };
        let mut left = bytes;
        for run in self.runs.range(start..) {
            if run.first > through {
                break;
            }
            let piece = if from <= run.first && run.last() <= through {
                Arc::clone(run)
            } else {
                Arc::new(run.slice(from, through))
            };
            let size = piece.bytes();
            if size <= left {
                left -= size;
                entries.push(piece);
                continue;
            }
            let fitting = piece.fit(left);
            if fitting > 0 || entries.is_empty() {
                entries.push(piece.slice(piece.first, piece.first + fitting.max(1) - 1));
            }
            break;
        }
        entries
    }

    /// The last entry at or before `index` whose term is not above `term`; where a log that has `term` at `index`
    /// may agree with this one. `None`: it lies before the base.
    pub(super) fn agreement(&self, index: Index, term: Term) -> Option<Position> {
        if index < self.base.index {
            return None;
        }
        let index = index.min(self.last.index);
        let Some(at) = self.run_at(index) else {
            return (self.base.term <= term).then_some(self.base);
        };
        if self.runs[at].term <= term {
            return self.position(index);
        }
        let before = self.runs.range(..at).rev().find(|run| run.term <= term);
        match before {
            Some(run) => Some(Position { term: run.term, index: run.last() }),
            None => (self.base.term <= term).then_some(self.base),
        }
    }

    /// All runs.
    pub(super) fn runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.runs.iter()
    }
}
