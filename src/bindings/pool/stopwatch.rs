//! Where time goes, told without reading the clock for each item.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::pool::system;
use crate::time::Instant;

/// At most this many items are taken together: with them reading the clock costs a nanosecond or two an item.
const STRIDE_MAX: u32 = 64;
/// Items that take longer than this, in nanoseconds, are taken one by one.
const LONG: u64 = 20_000;

/// A worker's: all of its time but the pauses is told, parted as in the items that were looked at.
pub(super) struct Stopwatch {
    /// Since when time is not told yet.
    since: Instant,
    stride: u32,
    /// Items until the next that is looked at.
    left: u32,
    /// Of the item that is looked at: when it began, was read, was called.
    marks: [Instant; 3],
    count: usize,
    /// Parts of the last item that was looked at.
    parts: [u64; 3],
}

impl Stopwatch {
    pub(super) fn new() -> Self {
        let since = system::now();
        Self { since, stride: 1, left: 0, marks: [since; 3], count: 0, parts: [0, 1, 0] }
    }

    /// An item begins.
    #[inline]
    pub(super) fn begin(&mut self) {
        if self.left > 0 {
            self.left -= 1;
            return;
        }
        self.marks[0] = system::now();
        self.count = 1;
    }

    /// A part of it is over.
    #[inline]
    pub(super) fn lap(&mut self) {
        if self.count > 0 && self.count < 3 {
            self.marks[self.count] = system::now();
            self.count += 1;
        }
    }

    /// It is over.
    #[inline]
    pub(super) fn end(&mut self, tell: impl FnOnce([u64; 3])) {
        if self.count == 0 {
            return;
        }
        self.count = 0;
        let now = system::now();
        let [began, read, called] = self.marks;
        let between = |from: Instant, to: Instant| (to - from).as_nanos() as u64;
        self.parts = [between(began, read), between(read, called), between(called, now)];
        self.stride = if between(self.since, now) / u64::from(self.stride) > LONG {
            1
        } else {
            (self.stride * 2).min(STRIDE_MAX)
        };
        self.left = self.stride - 1;
        self.settle(now, tell);
    }

    /// Nothing is to be done.
    pub(super) fn pause(&mut self, tell: impl FnOnce([u64; 3])) {
        self.settle(system::now(), tell);
    }

    /// The pause is over.
    pub(super) fn go_on(&mut self) {
        self.since = system::now();
        self.left = self.left.min(1); // what comes after a pause may be something else
    }

    fn settle(&mut self, now: Instant, tell: impl FnOnce([u64; 3])) {
        let span = (now - self.since).as_nanos() as u64;
        self.since = now;
        let whole: u64 = self.parts.iter().sum::<u64>().max(1);
        let share = |part: u64| (u128::from(span) * u128::from(part) / u128::from(whole)) as u64;
        tell(self.parts.map(share));
    }
}

/// Adds the time of a block to a sum.
pub(super) struct Spent<'a> {
    sum: &'a AtomicU64,
    began: Instant,
}

impl<'a> Spent<'a> {
    pub(super) fn on(sum: &'a AtomicU64) -> Self {
        Self { sum, began: system::now() }
    }
}

impl Spent<'_> {
    /// Does something that does not count.
    pub(super) fn aside<R>(&mut self, body: impl FnOnce() -> R) -> R {
        let from = system::now();
        let result = body();
        self.began = self.began + (system::now() - from);
        result
    }
}

impl Drop for Spent<'_> {
    fn drop(&mut self) {
        let span = (system::now() - self.began).as_nanos() as u64;
        self.sum.fetch_add(span, Ordering::Relaxed); // a statistic
    }
}
