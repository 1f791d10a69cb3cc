//! What a job keeps: its items, encoded, until they are finished; its results, encoded, until they are fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::arena::{Keep, Slot};
use super::message::{Kind, append, split};
use super::parcel::{self, Mode};

/// A batch is closed at this size.
const BATCH_BYTES: usize = 1 << 16;
/// What is smaller joins the batch before it: single calls come one by one, and a batch for each would cost more than
/// the calls.
const SMALL: usize = 1 << 12;

/// Encoded items side by side, all for one function.
#[derive(Debug)]
pub struct Batch {
    /// The index of the first.
    pub first: u64,
    /// What they call.
    pub function: u32,
    /// Messages, one behind another.
    pub bytes: Vec<u8>,
    /// Where each begins.
    pub starts: Vec<u32>,
    left: u64,
}

impl Batch {
    /// The messages from the `offset`th on, at most `most`: all bytes, and where those begin.
    pub fn run(&self, offset: usize, most: u64) -> (&[u8], &[u32]) {
        let end = self.starts.len().min(offset.saturating_add(usize::try_from(most).unwrap_or(usize::MAX)));
        let until = self.starts.get(end).map_or(self.bytes.len(), |&start| start as usize);
        (&self.bytes[..until], &self.starts[offset..end])
    }

    fn end(&self) -> u64 {
        self.first + self.starts.len() as u64
    }
}

/// The items of a job that are not finished.
#[derive(Debug, Default)]
pub struct Items {
    batches: VecDeque<Batch>,
    count: u64,
    /// What items have in the arena.
    kept: BTreeMap<u64, Vec<Keep>>,
}

impl Items {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Appends items: messages, and where each begins. An item that is larger than `body_max` must come alone.
    pub fn push(&mut self, function: u32, bytes: Vec<u8>, starts: Vec<u32>) {
        let (first, left) = (self.count, starts.len() as u64);
        self.count += left;
        if let Some(last) = self.batches.back_mut() {
            let fits = bytes.len() < SMALL && last.bytes.len() + bytes.len() <= BATCH_BYTES;
            if last.function == function && fits && last.left > 0 {
                let base = last.bytes.len() as u32;
                last.bytes.extend_from_slice(&bytes);
                last.starts.extend(starts.iter().map(|start| base + start));
                last.left += left;
                return;
            }
        }
        self.batches.push_back(Batch { first, function, bytes, starts, left });
    }

    /// The last item, which was pushed just now, has this in the arena until it is finished.
    pub fn keep(&mut self, index: u64, kept: Vec<Keep>) {
        if !kept.is_empty() {
            self.kept.insert(index, kept);
        }
    }

    /// Functions of the items that are not finished, and how many items each has.
    pub fn functions(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.batches.iter().map(|batch| (batch.function, batch.left))
    }

    /// The batch of an item, and its place there.
    pub fn find(&self, index: u64) -> Option<(&Batch, usize)> {
        let place = self.batches.partition_point(|batch| batch.end() <= index);
        let batch = self.batches.get(place).filter(|batch| batch.first <= index)?;
        Some((batch, (index - batch.first) as usize))
    }

    /// Items are finished: what nobody needs any more goes.
    pub fn finished(&mut self, mut first: u64, mut count: u64) {
        for index in first..first + count {
            if self.kept.is_empty() {
                break;
            }
            self.kept.remove(&index);
        }
        let mut place = self.batches.partition_point(|batch| batch.end() <= first);
        while count > 0 {
            let Some(batch) = self.batches.get_mut(place) else { return };
            let here = count.min(batch.end() - first);
            batch.left -= here;
            if batch.left == 0 {
                batch.bytes = Vec::new();
            }
            first += here;
            count -= here;
            place += 1;
        }
        while self.batches.front().is_some_and(|batch| batch.left == 0) {
            self.batches.pop_front();
        }
    }
}

/// Results side by side.
#[derive(Debug)]
pub struct Run {
    /// The index of the first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// Messages, one behind another.
    pub bytes: Vec<u8>,
    /// What they have in the arena, in their order.
    pub slots: VecDeque<Slot>,
    /// Whether some may be failures.
    pub has_failures: bool,
}

impl Run {
    /// Without anything in the arena.
    pub fn new(first: u64, count: u64, bytes: Vec<u8>) -> Self {
        Self { first, count, bytes, slots: VecDeque::new(), has_failures: true }
    }
}

/// In what order results are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// All at the end.
    Gathered,
    /// As far as they are there without a gap.
    Sorted,
    /// As they come.
    Arrival,
    /// Each by its index.
    Single,
    /// Single calls as they come: each has a function of its own, and there is always one more.
    Calls,
}

/// The results of a job that were not fetched.
#[derive(Debug)]
pub struct Results {
    order: Order,
    arrived: VecDeque<Run>,
    /// By first index.
    sorted: BTreeMap<u64, Run>,
    next: u64,
    /// Of single calls: whose result nobody will fetch.
    forgotten: BTreeSet<u64>,
}

impl Results {
    /// None yet.
    pub fn new(order: Order) -> Self {
        Self { order, arrived: VecDeque::new(), sorted: BTreeMap::new(), next: 0, forgotten: BTreeSet::new() }
    }

    /// Takes in results that arrived together.
    pub fn put(&mut self, mut run: Run) {
        match self.order {
            Order::Gathered | Order::Arrival | Order::Calls => self.arrived.push_back(run),
            Order::Sorted => {
                self.sorted.insert(run.first, run);
            }
            Order::Single => {
                let mut bytes = &run.bytes[..];
                for index in run.first..run.first + run.count {
                    let Some((header, body, rest)) = split(bytes) else { return };
                    let slots = run.slots.drain(..slots(header.kind, body).min(run.slots.len())).collect();
                    if !self.forgotten.remove(&index) {
                        let mut own = Vec::new();
                        append(&mut own, header.kind, 0, body);
                        self.sorted.insert(index, Run { slots, ..Run::new(index, 1, own) });
                    }
                    bytes = rest;
                }
            }
        }
    }

    /// All that may be fetched now.
    pub fn fetch(&mut self) -> Vec<Run> {
        if self.order != Order::Sorted {
            self.next += self.arrived.iter().map(|run| run.count).sum::<u64>();
            return self.arrived.drain(..).collect();
        }
        let mut runs = Vec::new();
        while let Some(run) = self.sorted.remove(&self.next) {
            self.next += run.count;
            runs.push(run);
        }
        runs
    }

    /// How many were fetched, in whatever order but by index.
    pub fn fetched(&self) -> u64 {
        self.next
    }

    /// Whether they are single calls, whatever the way in which they are fetched.
    pub fn is_single(&self) -> bool {
        matches!(self.order, Order::Single | Order::Calls)
    }

    /// Whether something may be fetched now.
    pub fn has_some(&self) -> bool {
        if self.order == Order::Sorted {
            self.sorted.contains_key(&self.next)
        } else {
            !self.arrived.is_empty()
        }
    }

    /// The result of a single call.
    pub fn fetch_single(&mut self, index: u64) -> Option<Run> {
        self.sorted.remove(&index)
    }

    /// Whether the result of a single call is there.
    pub fn has_single(&self, index: u64) -> bool {
        self.sorted.contains_key(&index)
    }

    /// Nobody will fetch the result of a single call.
    pub fn forget(&mut self, index: u64) {
        if self.sorted.remove(&index).is_none() {
            self.forgotten.insert(index);
        }
    }
}

/// The outcome of an item whose worker died: who it was, and by which signal.
pub fn died(index: u64, process: i32, signal: i32) -> Run {
    let mut body = [0; 8];
    body[..4].copy_from_slice(&process.to_le_bytes());
    body[4..].copy_from_slice(&signal.to_le_bytes());
    single(index, Kind::Died, &body)
}

/// The outcome of an item that ran too long.
pub fn timed_out(index: u64, process: i32) -> Run {
    single(index, Kind::TimedOut, &process.to_le_bytes())
}

/// One result by itself.
pub fn single(index: u64, kind: Kind, body: &[u8]) -> Run {
    let mut bytes = Vec::new();
    append(&mut bytes, kind, 0, body);
    Run::new(index, 1, bytes)
}

/// How many extents a result has in the arena.
fn slots(kind: Kind, body: &[u8]) -> usize {
    if kind != Kind::Parcel {
        return 0;
    }
    let places = parcel::places(body).unwrap_or_default();
    places.iter().filter(|(mode, _)| *mode == Mode::Owned).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(count: usize) -> (Vec<u8>, Vec<u32>) {
        let (mut bytes, mut starts) = (Vec::new(), Vec::new());
        for value in 0..count {
            starts.push(bytes.len() as u32);
            append(&mut bytes, Kind::Int, 0, &(value as i64).to_le_bytes());
        }
        (bytes, starts)
    }

    #[test]
    fn items_go_when_they_are_finished_in_whatever_order() {
        let mut items = Items::default();
        let (bytes, starts) = messages(BATCH_BYTES / 16);
        items.push(0, bytes.clone(), starts.clone());
        items.push(0, bytes.clone(), starts.clone());
        let half = starts.len() as u64;
        assert_eq!(items.batches.len(), 2);
        items.finished(half, half); // the second batch first
        assert_eq!(items.batches.iter().map(|batch| batch.bytes.len()).sum::<usize>(), bytes.len());
        assert!(items.find(half - 1).is_some());
        items.finished(0, half);
        assert!(items.batches.is_empty());
        assert!(items.find(0).is_none());
    }

    #[test]
    fn single_calls_of_one_function_share_a_batch() {
        let mut items = Items::default();
        let (bytes, starts) = messages(1);
        for function in [0, 0, 1, 1, 1] {
            items.push(function, bytes.clone(), starts.clone());
        }
        assert_eq!(items.batches.len(), 2);
        let (batch, offset) = items.find(4).expect("it is there");
        assert_eq!((batch.function, batch.first, offset), (1, 2, 2));
        let (bytes, starts) = batch.run(1, 1);
        assert_eq!((bytes.len(), starts), (32, &[16][..]));
    }

    #[test]
    fn sorted_results_come_without_a_gap() {
        let mut results = Results::new(Order::Sorted);
        results.put(single(1, Kind::None, &[]));
        assert!(!results.has_some());
        results.put(single(0, Kind::None, &[]));
        let firsts: Vec<u64> = results.fetch().iter().map(|run| run.first).collect();
        assert_eq!(firsts, [0, 1]);
    }

    #[test]
    fn a_forgotten_result_is_not_kept() {
        let mut results = Results::new(Order::Single);
        results.forget(0);
        results.put(single(0, Kind::None, &[]));
        results.put(single(1, Kind::None, &[]));
        results.forget(1);
        assert!(results.sorted.is_empty() && results.forgotten.is_empty());
    }
}
