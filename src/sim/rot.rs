//! Rot, drawn. It stands apart from the swarm, because only worlds through bytes have it.

use std::time::Duration;

use super::faults::{Fault, Kind, Plan};
use crate::id::NodeId;
use crate::random::Random;
use crate::time::Instant;

/// The share of worlds in which something rots.
const SHARE: f64 = 0.5;

impl Plan {
    /// Adds rot, in half of all seeds, to a plan that heals a core of some of `members` processes.
    ///
    /// What is rotten never comes back, so it befalls those outside the core alone: who is to make progress in the
    /// end has lost nobody. Half the time a crash follows, because rot shows at a start only. Nothing is added to a
    /// plan that heals no core, or everybody.
    pub fn add_rot(&mut self, members: u64, horizon: Duration, seed: u64) {
        let mut random = Random::new(seed);
        for node in self.spared(members) {
            // One stream a process: sparing one shifts nothing of the others.
            let mut random = random.split();
            if random.unit() < SHARE {
                self.rot_one(node, horizon, &mut random);
            }
        }
    }

    /// Who is not needed once the core is healed.
    fn spared(&self, members: u64) -> Vec<NodeId> {
        let core = self.faults.iter().find_map(|fault| match &fault.kind {
            Kind::Heal { core } if !core.is_empty() => Some(core),
            _ => None,
        });
        core.map_or_else(Vec::new, |core| {
            (1..=members).map(NodeId).filter(|node| !core.contains(node)).collect()
        })
    }

    fn rot_one(&mut self, node: NodeId, horizon: Duration, random: &mut Random) {
        /// How long a process stays down before it finds out.
        const DOWN: Duration = Duration::from_millis(300);
        let at = Duration::from_nanos(random.below(horizon.as_nanos() as u64));
        self.push(Fault {
            start: Instant::ZERO + at,
            length: Duration::ZERO,
            kind: Kind::Rot { node },
            key: random.word() | 1,
        });
        if random.below(2) == 0 {
            let soon = at + Duration::from_nanos(random.below(1_000_000_000));
            self.push(Fault {
                start: Instant::ZERO + soon,
                length: DOWN,
                kind: Kind::Crash { node },
                key: random.word() | 1,
            });
        }
    }
}
