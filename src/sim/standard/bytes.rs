//! The standard worlds through bytes.

use super::super::faults::Plan;
use super::{HORIZON, Scenario, Standard, finish, replicated, stored};
use crate::random::mix;
use crate::sim::Bytes;
use crate::sim::world::Failure;

/// Adds rot to a scenario, unless members come and go in it: as few as one voter may be left there, and it must not be
/// lost.
fn rot(faults: &mut Plan, members: u64, seed: u64, changes: bool) {
    if !changes {
        faults.add_rot(members, HORIZON, mix(seed ^ 0x726f_7400));
    }
}

impl Scenario {
    /// The scenario of `seed` for a world through bytes: that of [`Scenario::new`], and rot where members stay.
    pub fn through_bytes(seed: u64) -> Self {
        let mut scenario = Self::new(seed);
        let members = scenario.world.members;
        rot(&mut scenario.world.faults, members, seed, scenario.clients.changes);
        scenario
    }
}

impl replicated::Scenario {
    /// The scenario of `seed` for a world through bytes: that of [`replicated::Scenario::new`], and rot where members
    /// stay.
    pub fn through_bytes(seed: u64) -> Self {
        let mut scenario = Self::new(seed);
        let (members, changes) =
            (scenario.world.members, scenario.orders.is_some_and(|orders| orders.changes));
        rot(&mut scenario.world.faults, members, seed, changes);
        scenario
    }
}

impl stored::Scenario {
    /// The scenario of `seed` for a world through bytes: that of [`stored::Scenario::new`], and rot where members stay.
    pub fn through_bytes(seed: u64) -> Self {
        let mut scenario = Self::new(seed);
        let (members, changes) =
            (scenario.world.members, scenario.orders.is_some_and(|orders| orders.changes));
        rot(&mut scenario.world.faults, members, seed, changes);
        scenario
    }
}

/// Runs the standard world of `seed` through bytes to its end.
pub fn run_through_bytes(seed: u64) -> Result<Standard<Bytes>, Failure> {
    let mut world = Scenario::through_bytes(seed).build_over();
    finish(&mut world)?;
    Ok(world)
}
