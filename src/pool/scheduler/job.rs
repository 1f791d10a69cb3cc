//! A job's items: which are to be handed out, and how long they take.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Job {
    pub(super) chunk: u64,
    pub(super) offered: u64,
    pub(super) finished: u64,
    /// How often an item's worker died, for those that are tried again.
    pub(super) tries: BTreeMap<u64, u32>,
    /// Items to be handed out, in order: what came back has its old place.
    pending: VecDeque<Range<u64>>,
    waiting: u64,
    cancelled: bool,
    /// Nanoseconds that an item takes.
    mean: Option<f64>,
}

impl Job {
    pub(super) fn new(chunk: u64) -> Self {
        Self {
            chunk: chunk.max(1),
            offered: 0,
            finished: 0,
            tries: BTreeMap::new(),
            pending: VecDeque::new(),
            waiting: 0,
            cancelled: false,
            mean: None,
        }
    }

    pub(super) fn offer(&mut self, count: u64) {
        let end = self.offered + count;
        match self.pending.back_mut() {
            Some(last) if last.end == self.offered => last.end = end,
            _ => self.pending.push_back(self.offered..end),
        }
        self.offered = end;
        self.waiting += count;
    }

    /// One more item, which needs nobody. What is offered later must not join the range before it.
    pub(super) fn offer_finished(&mut self) {
        self.offered += 1;
        self.finished += 1;
    }

    /// Nothing more of it is to be begun: what waits is as good as finished.
    pub(super) fn cancel(&mut self) {
        self.cancelled = true;
        self.finished += self.waiting;
        self.waiting = 0;
        self.pending.clear();
    }

    /// Takes one item out of those that wait; says whether it was among them.
    pub(super) fn withdraw(&mut self, index: u64) -> bool {
        let place = self.pending.partition_point(|range| range.end <= index);
        let Some(range) = self.pending.get_mut(place).filter(|range| range.start <= index) else {
            return false;
        };
        let before = range.start..index;
        range.start = index + 1;
        if range.is_empty() {
            self.pending.remove(place);
        }
        if !before.is_empty() {
            self.pending.insert(place, before);
        }
        self.waiting -= 1;
        self.finished += 1;
        self.tries.remove(&index);
        true
    }

    pub(super) fn give_back(&mut self, items: Range<u64>) {
        if self.cancelled {
            self.finished += items.end - items.start;
            return;
        }
        self.waiting += items.end - items.start;
        let place = self.pending.partition_point(|range| range.start < items.start);
        let joins_next = self.pending.get(place).is_some_and(|next| next.start == items.end);
        let joins_last = place > 0 && self.pending[place - 1].end == items.start;
        match (joins_last, joins_next) {
            (true, true) => {
                self.pending[place - 1].end = self.pending[place].end;
                self.pending.remove(place);
            }
            (true, false) => self.pending[place - 1].end = items.end,
            (false, true) => self.pending[place].start = items.start,
            (false, false) => self.pending.insert(place, items),
        }
    }

    pub(super) fn pending(&self) -> u64 {
        self.waiting
    }

    /// The next items that lie side by side, at most `most`.
    pub(super) fn peek(&self, most: u64) -> Option<Range<u64>> {
        let first = self.pending.front()?;
        Some(first.start..first.end.min(first.start + most))
    }

    /// The first `count` items are handed out.
    pub(super) fn take(&mut self, count: u64) {
        self.waiting -= count;
        let Some(first) = self.pending.front_mut() else { return };
        first.start += count;
        if first.is_empty() {
            self.pending.pop_front();
        }
    }

    /// How many items last as long as `slice`; one when nothing is known.
    pub(super) fn run(&self, slice: Duration) -> u64 {
        self.mean.map_or(1, |mean| (slice.as_nanos() as f64 / mean.max(1.0)) as u64).max(1)
    }

    /// `count` items took `span` together.
    pub(super) fn measure(&mut self, count: u64, span: Duration) {
        let each = span.as_nanos() as f64 / count as f64;
        // Half the weight to what is new: task times drift, and a first measurement has a worker's start in it.
        self.mean = Some(self.mean.map_or(each, |mean| f64::midpoint(mean, each)));
    }
}
