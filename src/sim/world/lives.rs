//! How lives begin and end, and who hears of it.

use super::{Pending, Stream, World, stream};
use crate::protocol::Link;
use crate::sim::host::{Host, Load, Watch};
use crate::sim::medium::{Damage, Journal, Medium};
use crate::sim::trace::{Fingerprint, Verb};
use crate::time::Instant;

impl<P, H, W, L, M> World<P, H, W, L, M>
where
    P: Fingerprint,
    H: Host<P>,
    W: Watch<P, H>,
    L: Load<P>,
    M: Medium<P>,
{
    /// A process begins a life, from what its last one left on the disk.
    pub(super) fn begin_life(&mut self, node: usize) {
        let process = &mut self.processes[node];
        if process.alive.is_some() || process.downs > 0 || process.damaged {
            return;
        }
        let mut random = stream(self.seed, Stream::Recovery, (process.id.0 << 32) | u64::from(process.life));
        let records = match process.journal.recover(&mut random) {
            Ok(records) => records,
            Err(damage) => {
                self.stay_down(node, damage);
                return;
            }
        };
        process.life += 1;
        let (id, life) = (process.id, u64::from(process.life));
        let random = stream(self.seed, Stream::Machine, (id.0 << 32) | life);
        self.take(Verb::Start, node, None, life, None, || format!("life {life}, {} records", records.len()));
        self.statistics.starts += 1;
        let verdict = self.watch.recovered(Instant::from_nanos(self.now), id, &records);
        if verdict.is_err() {
            self.judge(node, verdict);
        }
        let process = &mut self.processes[node];
        process.alive = Some(((self.factory)(id), H::open(id, process.host_disk.clone())));
        let now = self.clocks[node].read(self.now);
        let mut out = std::mem::take(&mut self.outbox);
        self.machine_of(node, |machine| {
            machine.start(now, random, records, &mut out);
            machine.flush(now, &mut out);
        });
        self.perform(node, &mut out);
        self.outbox = out;
        self.greet(node);
    }

    /// A process cannot read its journal. It never starts again, because it would forget promises.
    fn stay_down(&mut self, node: usize, damage: Damage) {
        let process = &mut self.processes[node];
        process.damaged = true;
        let (id, life) = (process.id, u64::from(process.life));
        self.statistics.damaged += 1;
        self.note(Verb::Start, Some(id), None, life, None, || damage.to_string());
        if let Damage::Missed(violation) = damage {
            self.judge(node, Err(violation));
        }
    }

    /// A process crashes: what it had promised and not yet written is gone.
    pub(super) fn end_life(&mut self, node: usize) {
        let process = &mut self.processes[node];
        let Some((_, host)) = process.alive.take() else { return };
        let (id, life) = (process.id, u64::from(process.life));
        let mut random = stream(self.seed, Stream::Crash, (id.0 << 32) | life);
        process.journal.crash(&mut random);
        process.host_disk = host.crash(&mut random);
        process.alarms.clear();
        process.promises.clear();
        process.part = None;
        let inbox = std::mem::take(&mut process.inbox);
        process.disk.reset();
        process.doomed = None;
        self.statistics.crashes += 1;
        self.note(Verb::Crash, Some(id), None, life, None, String::new);
        for cell in inbox {
            if let Pending::Message { from, sent, parcel } = cell.pending {
                self.strand(node, from, sent, parcel);
            }
        }
        let verdict = self.watch.crashed(Instant::from_nanos(self.now), id);
        if verdict.is_err() {
            self.judge(node, verdict);
        }
        self.mourn(node);
    }

    /// Peers that can reach it hear that it is there, and it hears of them.
    fn greet(&mut self, node: usize) {
        for peer in self.peers(node) {
            self.hint(peer, node, Link::Up, 0);
            self.hint(node, peer, Link::Up, 0);
        }
    }

    /// Peers that can reach its machine see the connection end, and then that nobody listens there.
    fn mourn(&mut self, node: usize) {
        for peer in self.peers(node) {
            self.hint(peer, node, Link::Down, 0);
            self.hint(peer, node, Link::Refused, 1_000_000);
        }
    }

    /// Processes that run, and that `node` can talk with.
    fn peers(&self, node: usize) -> Vec<usize> {
        let reaches = |peer: usize| {
            peer != node
                && self.processes[peer].alive.is_some()
                && self.fabric.is_open(node, peer)
                && self.fabric.is_open(peer, node)
        };
        (0..if self.hints { self.processes.len() } else { 0 }).filter(|&peer| reaches(peer)).collect()
    }

    /// Tells `node` about its connection to `peer`, as quickly as the network does, and `later`.
    pub(super) fn hint(&mut self, node: usize, peer: usize, link: Link, later: u64) {
        let word = self.processes[node].hints.word();
        let at = self.now.saturating_add(self.fabric.latency(word)).saturating_add(later);
        self.push(at, node, Pending::Hint { peer: peer as u32, link });
    }
}
