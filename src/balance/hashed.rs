//! Requests placed by key, on a ring.

use std::fmt;
use std::sync::Arc;

use super::policy::{Outcome, Policy, Request};
use super::{Slot, Stateless};
use crate::ring::{BoundedLoad, Key, Ring};
use crate::time::Instant;

/// A ring and the slot of each of its positions; [`NOWHERE`] for a node that has no slot at the moment.
pub struct Places<R: ?Sized> {
    /// Where keys belong.
    pub ring: Arc<R>,
    /// Slot by position on the ring.
    pub slots: Vec<Slot>,
}

/// Where keys belong from now on.
#[derive(Debug)]
pub enum Placement {
    /// For [`Hashed`].
    Free(Places<dyn Ring>),
    /// For [`BoundedHashed`].
    Bounded(Places<BoundedLoad>),
}

/// The slot of a node that just comes or goes.
pub const NOWHERE: Slot = Slot::MAX;

impl<R: ?Sized> fmt::Debug for Places<R> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Places").field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// The first of `candidates` among the nodes that `several` names for a key, its owner first.
fn first_candidate(
    slots: &[Slot],
    candidates: &[Slot],
    owner: Option<u32>,
    several: impl Fn(usize) -> Vec<u32>,
) -> Option<Slot> {
    let slot = |position: u32| {
        slots.get(position as usize).copied().filter(|slot| *slot != NOWHERE && candidates.contains(slot))
    };
    if let Some(slot) = owner.and_then(slot) {
        return Some(slot);
    }
    // The owner is out: the key goes where it would go if the owner had left the ring.
    let mut count = 2;
    loop {
        let positions = several(count);
        if let Some(slot) = positions.iter().copied().find_map(slot) {
            return Some(slot);
        }
        if positions.len() < count {
            // The ring does not know any candidate, so none is nearer than another.
            return candidates.first().copied();
        }
        count *= 4;
    }
}

/// The owner of the request's key; while it is out, the next node that is not.
#[derive(Clone, Debug)]
pub struct Hashed {
    places: Arc<Places<dyn Ring>>,
}

impl Hashed {
    /// Places keys on `places`.
    pub fn new(places: Places<dyn Ring>) -> Self {
        Self { places: Arc::new(places) }
    }

    fn choose(&self, key: Key<'_>, candidates: &[Slot]) -> Option<Slot> {
        let Places { ring, slots } = &*self.places;
        first_candidate(slots, candidates, ring.owner(key), |count| ring.several(key, count))
    }
}

impl Stateless for Hashed {
    fn pick(&self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        self.choose(request.key?, candidates)
    }
}

impl Policy for Hashed {
    fn pick(&mut self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        Stateless::pick(self, request, candidates)
    }
    fn place(&mut self, placement: Placement) {
        if let Placement::Free(places) = placement {
            self.places = Arc::new(places);
        }
    }
    fn stateless(&self) -> Option<Arc<dyn Stateless>> {
        Some(Arc::new(self.clone()))
    }
}

/// As [`Hashed`], on a ring on which a full node passes the key on: a pick fills its node until `done`.
#[derive(Debug)]
pub struct BoundedHashed {
    ring: BoundedLoad,
    slots: Vec<Slot>,
}

impl BoundedHashed {
    /// Places keys on `places`, whose loads count from here on.
    pub fn new(places: Places<BoundedLoad>) -> Self {
        Self { ring: BoundedLoad::clone(&places.ring), slots: places.slots }
    }

    fn position(&self, slot: Slot) -> Option<u32> {
        self.slots.iter().position(|&other| other == slot).map(|position| position as u32)
    }
}

impl Policy for BoundedHashed {
    fn pick(&mut self, request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        let (ring, key) = (&self.ring, request.key?);
        let slot =
            first_candidate(&self.slots, candidates, ring.owner(key), |count| ring.several(key, count))?;
        if let Some(position) = self.position(slot) {
            self.ring.charge(position);
        }
        Some(slot)
    }

    fn done(&mut self, _now: Instant, slot: Slot, _outcome: Outcome) {
        if let Some(position) = self.position(slot) {
            self.ring.discharge(position);
        }
    }

    fn place(&mut self, placement: Placement) {
        let Placement::Bounded(places) = placement else { return };
        let load = |slot: Slot| match self.position(slot) {
            Some(before) if slot != NOWHERE => self.ring.loads()[before as usize],
            _ => 0,
        };
        let loads = places.slots.iter().map(|&slot| load(slot)).collect();
        let Ok(ring) = places.ring.with_loads(loads) else { return };
        (self.ring, self.slots) = (ring, places.slots);
    }
}
