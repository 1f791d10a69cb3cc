//! What one worker has before it.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::JobId;
use crate::time::Instant;

/// Items of a job, side by side, that were handed to a worker together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Whose items.
    pub job: JobId,
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

/// A worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// There is none: one should be started.
    Absent,
    /// It works, or will as soon as it is there.
    Working,
    /// It was told to leave.
    Retiring,
    /// It is being ended, because its item ran too long.
    Overdue,
}

#[derive(Debug)]
pub(super) struct Worker {
    pub(super) stage: Stage,
    /// What it was handed and has not finished, in order.
    pub(super) pieces: VecDeque<Piece>,
    /// Items since it started: handed over, claimed, finished.
    handed: u64,
    claims: u64,
    pub(super) finished: u64,
    /// Since when it runs its item, or has something to take up.
    pub(super) since: Instant,
    measured: u64,
    job: Option<JobId>,
    /// Tasks that it may still begin.
    budget: Option<u64>,
    /// The chunk that it began last.
    chunk: Option<(JobId, u64)>,
}

impl Worker {
    pub(super) fn absent() -> Self {
        Self {
            stage: Stage::Absent,
            pieces: VecDeque::new(),
            handed: 0,
            claims: 0,
            finished: 0,
            since: Instant::ZERO,
            measured: 0,
            job: None,
            budget: None,
            chunk: None,
        }
    }

    pub(super) fn started(budget: Option<u64>, now: Instant) -> Self {
        Self { stage: Stage::Working, budget, since: now, ..Self::absent() }
    }

    pub(super) fn open(&self) -> u64 {
        self.handed - self.finished
    }

    pub(super) fn is_running(&self) -> bool {
        self.claims > self.finished
    }

    /// It does only so many tasks.
    pub(super) fn counts_tasks(&self) -> bool {
        self.budget.is_some()
    }

    /// It has not been seen to take up anything yet.
    pub(super) fn is_new(&self) -> bool {
        self.claims == 0
    }

    /// Something waits that another might do instead; but a chunk that was begun is one task, where tasks are counted.
    pub(super) fn may_be_relieved(&self) -> bool {
        self.open() > 1 && (self.is_new() || !self.counts_tasks())
    }

    pub(super) fn may_take(&self, now: Instant, slice: Duration) -> bool {
        let is_slow = self.open() > 0 && now - self.since >= slice;
        self.stage == Stage::Working && !is_slow
    }

    pub(super) fn is_spent(&self) -> bool {
        self.stage == Stage::Working && self.budget == Some(0) && self.open() == 0
    }

    pub(super) fn claim(&mut self, claims: u64, now: Instant) {
        if claims > self.claims && !self.is_running() {
            self.since = now; // an item's time never counts from before it began
        }
        self.claims = self.claims.max(claims.min(self.handed));
    }

    pub(super) fn hand(&mut self, piece: Piece, chunk: u64, now: Instant) {
        if piece.count == 0 {
            return;
        }
        if self.open() == 0 {
            self.since = now;
        }
        self.handed += piece.count;
        if let Some(budget) = &mut self.budget {
            let begun = (piece.job, piece.first / chunk);
            if self.chunk != Some(begun) {
                *budget -= 1;
                self.chunk = Some(begun);
            }
        }
        self.pieces.push_back(piece);
    }

    /// What of a run the worker may still take: with a budget no run reaches from one chunk into the next.
    pub(super) fn within_budget(&self, job: JobId, run: Range<u64>, chunk: u64) -> Option<Range<u64>> {
        let Some(budget) = self.budget else { return Some(run) };
        if budget == 0 && self.chunk != Some((job, run.start / chunk)) {
            return None;
        }
        let end = (run.start / chunk + 1) * chunk;
        Some(run.start..run.end.min(end))
    }

    /// The first `count` items of the front piece are finished; says whose they are.
    pub(super) fn finish(&mut self, count: u64) -> Option<JobId> {
        let piece = self.pieces.front_mut()?;
        let job = piece.job;
        piece.first += count;
        piece.count -= count;
        if piece.count == 0 {
            self.pieces.pop_front();
        }
        self.finished += count;
        self.claims = self.claims.max(self.finished);
        self.measured += count;
        self.job = Some(job);
        Some(job)
    }

    pub(super) fn measure(&mut self, now: Instant) -> Option<(JobId, u64, Duration)> {
        if self.measured == 0 {
            return None;
        }
        let (count, span) = (std::mem::take(&mut self.measured), now - self.since);
        self.since = now;
        Some((self.job?, count, span))
    }

    /// The last `count` items were taken back; says which, the last first.
    pub(super) fn take_back(&mut self, mut count: u64) -> Vec<Piece> {
        self.handed -= count;
        let mut taken = Vec::new();
        while let Some(last) = self.pieces.back_mut().filter(|_| count > 0) {
            let part = last.count.min(count);
            last.count -= part;
            count -= part;
            taken.push(Piece { first: last.first + last.count, count: part, ..*last });
            if last.count == 0 {
                self.pieces.pop_back();
            }
        }
        if let Some(budget) = self.budget.as_mut().filter(|_| self.handed == 0 && !taken.is_empty()) {
            *budget += 1; // it has begun nothing
            self.chunk = None;
        }
        taken
    }

    /// The item that ran when the worker ended.
    pub(super) fn take_running(&mut self) -> Option<Piece> {
        if !self.is_running() {
            return None;
        }
        let piece = self.pieces.front_mut()?;
        let running = Piece { count: 1, ..*piece };
        piece.first += 1;
        piece.count -= 1;
        if piece.count == 0 {
            self.pieces.pop_front();
        }
        Some(running)
    }
}
