//! The standard world through bytes.

use super::{HORIZON, Scenario, Standard, finish};
use crate::random::mix;
use crate::sim::Bytes;
use crate::sim::world::Failure;

impl Scenario {
    /// The scenario of `seed` for a world through bytes: that of [`Scenario::new`], and rot.
    ///
    /// Nothing rots where members come and go: as few as one voter may be left there, and it must not be lost.
    pub fn through_bytes(seed: u64) -> Self {
        let mut scenario = Self::new(seed);
        let members = scenario.world.members;
        if !scenario.clients.changes {
            scenario.world.faults.add_rot(members, HORIZON, mix(seed ^ 0x726f_7400));
        }
        scenario
    }
}

/// Runs the standard world of `seed` through bytes to its end.
pub fn run_through_bytes(seed: u64) -> Result<Standard<Bytes>, Failure> {
    let mut world = Scenario::through_bytes(seed).build_over();
    finish(&mut world)?;
    Ok(world)
}
