//! Doing it again: a world that differs from itself has a leak, and the first step that differs shows where.

use std::time::Duration;

use super::host::{Host, Load, Watch};
use super::medium::Medium;
use super::trace::{Fingerprint, Row, Trace};
use super::world::World;

/// Two runs of one world that went different ways.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two runs of one world differ at step {step}: {}; {}", words(one.as_deref()), words(two.as_deref()))]
pub struct Divergence {
    /// The first step that differs.
    pub step: u64,
    /// What happened there in the one run.
    pub one: Option<Box<Row>>,
    /// And in the other.
    pub two: Option<Box<Row>>,
}

fn words(row: Option<&Row>) -> String {
    row.map_or_else(|| "nothing".to_owned(), ToString::to_string)
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
    one.keep_effects();
    two.keep_effects();
    loop {
        let before = one.steps();
        let (more, also) = (one.step_within(length), two.step_within(length));
        if one.digest() != two.digest() || more != also {
            return Err(part(before, one.trace(), two.trace()));
        }
        if !more {
            return Ok(one.digest());
        }
    }
}

/// The first rows after step `before` that differ.
fn part(before: u64, one: &Trace, two: &Trace) -> Divergence {
    let rows = |trace: &Trace| trace.rows().filter(|row| row.step >= before).cloned().collect::<Vec<_>>();
    let (one, two) = (rows(one), rows(two));
    let place = (0..one.len().max(two.len())).find(|&place| one.get(place) != two.get(place));
    let at = |rows: &[Row]| place.and_then(|place| rows.get(place)).cloned().map(Box::new);
    let (one, two) = (at(&one), at(&two));
    let step = one.as_ref().or(two.as_ref()).map_or(before, |row| row.step);
    Divergence { step, one, two }
}
