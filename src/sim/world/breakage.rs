//! What breaks, and what heals.

use super::{Cell, Pending, Stream, World, stream};
use crate::id::NodeId;
use crate::protocol::{Link, Protocol};
use crate::random::mix;
use crate::sim::faults::{Kind, LEADER, VOTER};
use crate::sim::host::{Host, Load, Watch};
use crate::sim::latency::nanos;
use crate::sim::medium::{Journal, Medium};
use crate::sim::trace::{Fingerprint, Verb};

impl<P, H, W, L, M> World<P, H, W, L, M>
where
    P: Fingerprint,
    H: Host<P>,
    W: Watch<P, H>,
    L: Load<P>,
    M: Medium<P>,
{
    /// The fault at `place` of the plan begins.
    pub(super) fn begin_fault(&mut self, place: usize) {
        let kind = self.aim(place);
        let node = kind.node().and_then(|node| self.index(node));
        if node.is_none() && kind.node().is_some() || node.is_some_and(|node| self.processes[node].healed) {
            return;
        }
        self.statistics.faults[kind.number()] += 1;
        self.note(Verb::Begin, None, kind.node(), kind.number() as u64, None, || format!("{kind:?}"));
        let mut random = stream(self.seed, Stream::Fault, self.plan.faults[place].key);
        match (&kind, node) {
            (Kind::Heal { core }, _) => {
                let core: Vec<usize> = core.iter().filter_map(|&node| self.index(node)).collect();
                self.mend(&core, self.plan.faults[place].key);
            }
            (Kind::FalseEvidence { refused, .. }, Some(node)) => {
                self.rumour(node, if *refused { Link::Refused } else { Link::Down });
            }
            (Kind::Crash { .. }, Some(node)) => self.doom(node, random.word()),
            (Kind::Jump { by, .. }, Some(node)) => {
                self.clocks[node].jump(self.now, nanos(*by));
                self.reset_alarms(node);
            }
            (Kind::Drift { ppm, .. }, Some(node)) => self.drift(node, *ppm),
            (Kind::Rot { .. }, Some(node)) => {
                self.statistics.rotted += u64::from(self.processes[node].journal.rot(&mut random));
            }
            (_, Some(node)) => self.afflict(node, &kind),
            (_, None) => self.fabric.begin(place, &kind, random),
        }
    }

    /// The fault at `place` of the plan, at those whom it means now.
    fn aim(&mut self, place: usize) -> Kind {
        let fault = &self.plan.faults[place];
        let mut names_the_moment = false;
        let mut random = stream(self.seed, Stream::Aim, fault.key);
        let drawn = NodeId(1 + random.below(self.processes.len().max(1) as u64));
        let kind = fault.kind.aimed(|node| {
            if node != LEADER && node != VOTER {
                return node;
            }
            names_the_moment = true;
            self.watch.target(node).unwrap_or(drawn)
        });
        if names_the_moment {
            self.aimed.insert(place, kind.clone());
        }
        kind
    }

    /// The fault at `place` of the plan ends.
    pub(super) fn end_fault(&mut self, place: usize) {
        let kind = self.aimed.remove(&place).unwrap_or_else(|| self.plan.faults[place].kind.clone());
        let node = kind.node().and_then(|node| self.index(node));
        if node.is_none() && kind.node().is_some() || node.is_some_and(|node| self.processes[node].healed) {
            return;
        }
        self.note(Verb::End, None, kind.node(), kind.number() as u64, None, || format!("{kind:?}"));
        match (&kind, node) {
            (Kind::Heal { .. } | Kind::Jump { .. }, _) => {}
            (Kind::FalseEvidence { .. }, Some(node)) => self.rumour(node, Link::Up),
            (Kind::Drift { ppm, .. }, Some(node)) => self.drift(node, -ppm),
            (_, Some(node)) => self.relieve(node, &kind, self.plan.faults[place].key),
            (_, None) => self.fabric.end(place, &kind),
        }
    }

    pub(super) fn afflict(&mut self, node: usize, kind: &Kind) {
        let process = &mut self.processes[node];
        match kind {
            Kind::Pause { .. } => process.pauses += 1,
            Kind::SlowDisk { by, .. } => process.disk.slow = process.disk.slow.saturating_add(nanos(*by)),
            Kind::FailSync { .. } => {
                process.disk.failing = true;
                process.downs += 1;
            }
            Kind::FullDisk { .. } => process.disk.full += 1,
            Kind::StalledDisk { .. } => process.disk.stalled += 1,
            _ => {}
        }
    }

    pub(super) fn relieve(&mut self, node: usize, kind: &Kind, key: u64) {
        let process = &mut self.processes[node];
        match kind {
            Kind::Crash { .. } => {
                process.downs = process.downs.saturating_sub(1);
                if process.doomed.is_some() {
                    self.end_life(node);
                }
                self.begin_life(node);
            }
            Kind::Pause { .. } => {
                process.pauses = process.pauses.saturating_sub(1);
                self.resume(node, key);
            }
            Kind::SlowDisk { by, .. } => process.disk.slow = process.disk.slow.saturating_sub(nanos(*by)),
            Kind::FailSync { .. } => {
                process.disk.failing = false;
                process.downs = process.downs.saturating_sub(1);
                self.begin_life(node);
            }
            Kind::FullDisk { .. } => {
                process.disk.full = process.disk.full.saturating_sub(1);
                self.begin_sync(node);
            }
            Kind::StalledDisk { .. } => {
                process.disk.stalled = process.disk.stalled.saturating_sub(1);
                self.end_stall(node);
            }
            _ => {}
        }
    }

    /// Dooms a process: it crashes between two of its next effects, or soon, when there are none.
    fn doom(&mut self, node: usize, word: u64) {
        /// How long it may stay idle.
        const IDLE: u64 = 20_000_000;
        let process = &mut self.processes[node];
        process.downs += 1;
        if process.alive.is_some() {
            process.doomed = Some(word);
            let pending = Pending::Crash { life: process.life };
            self.queue.push(self.now.saturating_add(IDLE), Cell { node: node as u32, pending });
        }
    }

    /// What arrived during a pause is taken now: in order from each sender, but which connection is looked at first,
    /// and whether alarms come before, is anybody's guess.
    fn resume(&mut self, node: usize, key: u64) {
        if self.processes[node].pauses > 0 {
            return;
        }
        let due = self.due(node, self.now);
        let mut inbox = std::mem::take(&mut self.processes[node].inbox);
        let mut random = stream(self.seed, Stream::Inbox, mix(key) ^ node as u64);
        let (peers, turn) = (self.processes.len(), random.word());
        inbox.sort_by_cached_key(|cell| mix(turn ^ sender(&cell.pending, peers) as u64));
        for cell in inbox.drain(..) {
            self.queue.push(due, cell);
        }
        self.processes[node].inbox = inbox;
    }

    fn end_stall(&mut self, node: usize) {
        let process = &mut self.processes[node];
        if process.disk.stalled > 0 {
            return;
        }
        if let Some(count) = process.disk.held.take() {
            let pending = Pending::Synced { life: process.life, count };
            self.queue.push(self.now, Cell { node: node as u32, pending });
        }
    }

    fn drift(&mut self, node: usize, ppm: i64) {
        let drift = self.clocks[node].drift();
        self.clocks[node].set_drift(self.now, drift + ppm);
        self.reset_alarms(node);
    }

    /// A clock has changed: alarms come at other times now.
    fn reset_alarms(&mut self, node: usize) {
        let pending: Vec<_> = self.processes[node].alarms.pending().collect();
        for (timer, at) in pending {
            self.set(node, timer, at);
        }
    }

    /// All others hear this of their connection to `node`.
    fn rumour(&mut self, node: usize, link: Link) {
        for peer in (0..self.processes.len()).filter(|&peer| peer != node) {
            self.hint(peer, node, link, 0);
        }
    }

    /// Mends for good what is broken at these and among them; at all, when there are none.
    fn mend(&mut self, core: &[usize], key: u64) {
        let members: Vec<bool> =
            (0..self.processes.len()).map(|node| core.is_empty() || core.contains(&node)).collect();
        self.fabric.heal(&members);
        for node in (0..members.len()).filter(|&node| members[node]) {
            let process = &mut self.processes[node];
            process.healed = true;
            (process.downs, process.pauses, process.doomed) = (0, 0, None);
            (process.disk.slow, process.disk.full, process.disk.stalled) = (0, 0, 0);
            process.disk.failing = false;
            let drift = -self.clocks[node].drift();
            self.drift(node, drift);
            self.resume(node, key);
            self.end_stall(node);
            self.begin_sync(node);
            self.begin_life(node);
        }
    }
}

/// Whose turn an input waits for: one of the peers', the askers', the alarms', or the process's own.
const fn sender<P: Protocol, M: Medium<P>>(pending: &Pending<P, M>, peers: usize) -> usize {
    match pending {
        Pending::Message { from: peer, .. } | Pending::Hint { peer, .. } => *peer as usize,
        Pending::Request { .. } => peers,
        Pending::Expire { .. } => peers + 1,
        _ => peers + 2,
    }
}
