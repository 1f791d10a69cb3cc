//! Doing it again: a world that differs from itself has a leak, and the first step that differs shows where.

use std::time::Duration;

use super::host::{Host, Load, Watch};
use super::medium::Medium;
use super::trace::{Fingerprint, Row};
use super::world::World;

/// Two runs of one world that went different ways.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two runs of one world differ at step {step}: {}; {}", words(one.as_ref()), words(two.as_ref()))]
pub struct Divergence {
    /// The first step that differs.
    pub step: u64,
    /// What happened there in the one run.
    pub one: Option<Box<Row>>,
    /// And in the other.
    pub two: Option<Box<Row>>,
}

fn words(row: Option<&Box<Row>>) -> String {
    row.map_or_else(|| "nothing".to_owned(), |row| row.to_string())
}

/// Runs the world that `build` makes twice, side by side, for `length`. The digest of both, or where they part.
pub fn replay<P, H, W, L, M>(
    mut build: impl FnMut() -> World<P, H, W, L, M>,
    length: Duration,
) -> Result<u64, Divergence>
where
    P: Fingerprint,
    H: Host<P>,
    W: Watch<P, H>,
    L: Load<P>,
    M: Medium<P>,
{
    let (mut one, mut two) = (build(), build());
    loop {
        let (more, also) = (one.step_within(length), two.step_within(length));
        if one.digest() != two.digest() || more != also {
            let last = |world: &World<P, H, W, L, M>| world.trace().rows().next_back().cloned().map(Box::new);
            return Err(Divergence { step: one.steps().min(two.steps()), one: last(&one), two: last(&two) });
        }
        if !more {
            return Ok(one.digest());
        }
    }
}
