//! A process: a machine, its application, its alarms, its disk, and what befalls them.

use std::collections::VecDeque;

use super::host::Host;
use super::medium::Medium;
use super::trace::Part;
use crate::id::NodeId;
use crate::protocol::Protocol;
use crate::random::Random;
use crate::time::Instant;

/// One of the world's processes; it goes through many lives.
pub(super) struct Process<P: Protocol, H: Host<P>, M: Medium<P>, Input> {
    pub(super) id: NodeId,
    /// Which life this is, or, while it is down, the last was; counted from 1.
    pub(super) life: u32,
    /// `None` while it is down.
    pub(super) alive: Option<(P, H)>,
    /// What survives of its application.
    pub(super) host_disk: H::Disk,
    pub(super) alarms: Alarms<P::Timer>,
    pub(super) journal: M::Journal,
    pub(super) disk: DiskState,
    /// Promises that wait, each with the number of records that must be durable first.
    pub(super) promises: VecDeque<(u64, NodeId, P::Message)>,
    /// When the application has asked all that it was going to ask.
    pub(super) applied: u64,
    pub(super) batches: Random,
    pub(super) hints: Random,
    /// How many pauses are in force.
    pub(super) pauses: u32,
    /// What arrived during a pause.
    pub(super) inbox: Vec<Input>,
    /// How many crashes keep it down.
    pub(super) downs: u32,
    /// It crashes at its next effects; the word draws at which.
    pub(super) doomed: Option<u64>,
    /// Nothing breaks here any more.
    pub(super) healed: bool,
    /// Its journal cannot be read: it never starts again.
    pub(super) damaged: bool,
    /// What it said last that it plays.
    pub(super) part: Option<Part>,
}

/// What a disk is doing. Records are counted from the beginning of the life.
pub(super) struct DiskState {
    pub(super) random: Random,
    pub(super) appended: u64,
    pub(super) durable: u64,
    pub(super) syncing: bool,
    /// By how much syncs take longer.
    pub(super) slow: u64,
    /// How many faults keep a sync from beginning, and from ending.
    pub(super) full: u32,
    pub(super) stalled: u32,
    /// A sync that would have ended, had the disk not stalled: how much it covers.
    pub(super) held: Option<u64>,
    /// The next sync fails.
    pub(super) failing: bool,
}

impl DiskState {
    pub(super) const fn new(random: Random) -> Self {
        Self {
            random,
            appended: 0,
            durable: 0,
            syncing: false,
            slow: 0,
            full: 0,
            stalled: 0,
            held: None,
            failing: false,
        }
    }

    /// A life has ended, and its syncs with it.
    pub(super) const fn reset(&mut self) {
        (self.appended, self.durable, self.syncing, self.held) = (0, 0, false, None);
    }
}

/// A life's alarms, sorted by name. An alarm that is set again and later keeps its event in the queue, which finds
/// out when it comes: most alarms are set anew long before they ring, and then nothing is pushed.
pub(super) struct Alarms<T> {
    alarms: Vec<Alarm<T>>,
    generation: u32,
}

struct Alarm<T> {
    timer: T,
    /// When it rings, on the process's clock.
    at: Option<Instant>,
    /// The event that will look at it: its number, and when it comes.
    event: Option<(u32, u64)>,
}

/// What an alarm's event found.
pub(super) enum Ring {
    /// It rings.
    Now,
    /// It was set to a later time.
    Later(Instant),
    /// It was cancelled, or another event looks after it.
    Never,
}

impl<T: Copy + Ord> Alarms<T> {
    pub(super) const fn new() -> Self {
        Self { alarms: Vec::new(), generation: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.alarms.clear();
    }

    /// Sets an alarm that the world expects at `due`. `Some`: an event of this number must be pushed for `due`.
    #[inline]
    pub(super) fn set(&mut self, timer: T, at: Instant, due: u64) -> Option<u32> {
        let place = match self.alarms.binary_search_by(|alarm| alarm.timer.cmp(&timer)) {
            Ok(place) => place,
            Err(place) => {
                self.alarms.insert(place, Alarm { timer, at: None, event: None });
                place
            }
        };
        let alarm = &mut self.alarms[place];
        alarm.at = Some(at);
        if alarm.event.is_some_and(|(_, comes)| comes <= due) {
            return None;
        }
        self.generation = self.generation.wrapping_add(1);
        alarm.event = Some((self.generation, due));
        Some(self.generation)
    }

    #[inline]
    pub(super) fn cancel(&mut self, timer: T) {
        if let Ok(place) = self.alarms.binary_search_by(|alarm| alarm.timer.cmp(&timer)) {
            self.alarms[place].at = None;
        }
    }

    /// The event of number `generation` has come, and the process's clock shows `now`.
    #[inline]
    pub(super) fn ring(&mut self, timer: T, generation: u32, now: Instant) -> Ring {
        let Ok(place) = self.alarms.binary_search_by(|alarm| alarm.timer.cmp(&timer)) else {
            return Ring::Never;
        };
        let alarm = &mut self.alarms[place];
        if alarm.event.is_none_or(|(number, _)| number != generation) {
            return Ring::Never;
        }
        alarm.event = None;
        match alarm.at {
            Some(at) if at <= now => {
                alarm.at = None;
                Ring::Now
            }
            Some(at) => Ring::Later(at),
            None => {
                self.alarms.remove(place);
                Ring::Never
            }
        }
    }

    /// Those that are set: after a clock has changed, their events come at the wrong time.
    pub(super) fn pending(&self) -> impl Iterator<Item = (T, Instant)> + '_ {
        self.alarms.iter().filter_map(|alarm| Some((alarm.timer, alarm.at?)))
    }
}
