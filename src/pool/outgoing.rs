//! How items get into a worker's ring, and out of it again.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::channel::Lane;
use super::functions::{Functions, Known};
use super::message::{HEADER, Header, Kind, split};
use super::ring::Stream;
use super::scheduler::{JobId, Lanes};
use super::store::{Batch, Items};

/// What was written for one worker.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    known: Known,
    /// Runs in the ring that may still be taken back, in order.
    marks: VecDeque<Mark>,
    /// Messages that did not fit into the ring at once: the parts of the item that was handed over last.
    sending: VecDeque<(Stream, Arc<[u8]>)>,
}

/// A run of items in one piece: the number of its first, how many, and where it stands.
#[derive(Clone, Copy, Debug)]
struct Mark {
    number: u64,
    count: u64,
    position: u64,
}

impl Outgoing {
    /// Writes on at what did not fit.
    pub(super) fn go_on(&mut self, lane: &mut Lane) {
        while let Some((stream, body)) = self.sending.front_mut() {
            if !lane.write_stream(stream, body) {
                return;
            }
            self.sending.pop_front();
        }
    }

    fn hand_run(
        &mut self,
        lane: &mut Lane,
        functions: &Functions,
        batch: &Batch,
        place: usize,
        most: u64,
    ) -> u64 {
        let (bytes, starts) = batch.run(place, most);
        let definition = self.known.missing(functions, batch.function).cloned();
        let is_large = starts.len() == 1 && bytes.len() - starts[0] as usize > HEADER + lane.body_max();
        if is_large || definition.as_ref().is_some_and(|definition| definition.len() > lane.body_max()) {
            return u64::from(self.send_large(lane, functions, batch, place, definition));
        }
        if let Some(definition) = definition {
            let header = Header::new(Kind::Function, batch.function, definition.len());
            let Some(at) = lane.write_message(header, &definition) else { return 0 };
            self.known.tell(functions, batch.function, at, lane.head());
        }
        let (count, position) = lane.write_run(bytes, starts);
        if count > 0 {
            self.hand(lane, count as u64, position);
        }
        count as u64
    }

    /// Begins with one item whose parts are written as room comes.
    fn send_large(
        &mut self,
        lane: &mut Lane,
        functions: &Functions,
        batch: &Batch,
        place: usize,
        definition: Option<Arc<[u8]>>,
    ) -> bool {
        let (bytes, starts) = batch.run(place, 1);
        let Some((header, body, _)) = split(&bytes[starts[0] as usize..]) else { return false };
        let position = lane.tail();
        if let Some(definition) = definition {
            self.known.tell(functions, batch.function, position, lane.head());
            self.sending
                .push_back((Stream::new(Kind::Function, batch.function, definition.len()), definition));
        }
        self.sending.push_back((Stream::new(header.kind, header.function, header.length), body.into()));
        // Its worker claims it now and reads as the parts come; else a full ring would wait for a reader for ever.
        self.hand(lane, 1, position);
        self.go_on(lane);
        true
    }

    fn hand(&mut self, lane: &mut Lane, count: u64, position: u64) {
        let number = lane.handed();
        if self.marks.len() > 64 {
            let claimed = lane.claimed();
            self.marks.retain(|mark| mark.number + mark.count > claimed);
        }
        self.marks.push_back(Mark { number, count, position });
        lane.hand(count);
    }

    fn recall(&mut self, lane: &mut Lane) -> u64 {
        let handed = lane.handed();
        let mut back_to = 0;
        let (marks, ring) = (&mut self.marks, lane.tasks());
        let count = lane.recall(|count| {
            let first = handed - count;
            while let Some(mark) = marks.back().filter(|mark| mark.number >= first) {
                back_to = mark.position;
                marks.pop_back();
            }
            if let Some(mark) = marks.back_mut().filter(|mark| mark.number + mark.count > first) {
                mark.count = first - mark.number;
                back_to = ring.skip(mark.position, mark.count);
            }
            back_to
        });
        if count > 0 {
            self.known.untell(back_to);
            self.sending.clear(); // it belongs to the last item, which is among them
        }
        count
    }
}

/// What the scheduler may do, on the pool's rings.
pub(super) struct Hands<'a> {
    /// By worker.
    pub(super) lanes: &'a mut [Lane],
    /// By worker.
    pub(super) outgoing: &'a mut [Outgoing],
    /// What tasks call.
    pub(super) functions: &'a Functions,
    /// The items of each job.
    pub(super) items: &'a BTreeMap<JobId, Items>,
    /// Workers to be ended.
    pub(super) overdue: &'a mut Vec<usize>,
}

impl Lanes for Hands<'_> {
    fn hand(&mut self, worker: usize, job: JobId, items: Range<u64>) -> u64 {
        let (lane, outgoing) = (&mut self.lanes[worker], &mut self.outgoing[worker]);
        let mut next = items.start;
        while next < items.end && outgoing.sending.is_empty() {
            let Some((batch, place)) = self.items.get(&job).and_then(|found| found.find(next)) else { break };
            let count = outgoing.hand_run(lane, self.functions, batch, place, items.end - next);
            if count == 0 {
                break;
            }
            next += count;
        }
        next - items.start
    }

    fn recall(&mut self, worker: usize) -> u64 {
        self.outgoing[worker].recall(&mut self.lanes[worker])
    }

    fn kill(&mut self, worker: usize) {
        self.overdue.push(worker);
    }

    fn retire(&mut self, worker: usize) {
        self.lanes[worker].quit();
    }
}
