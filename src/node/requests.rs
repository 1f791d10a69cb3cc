//! Which request is whose.

use super::inbox::Asker;
use crate::id::RequestId;

/// Who asked, by the number of the request. A number is never given twice.
#[derive(Default)]
pub(super) struct Requests {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    /// How often the slot was given away: the upper half of the request's number.
    generation: u32,
    asker: Option<Asker>,
}

impl Requests {
    pub(super) fn add(&mut self, asker: Asker) -> RequestId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[place as usize];
        slot.asker = Some(asker);
        RequestId(u64::from(slot.generation) << 32 | u64::from(place))
    }

    pub(super) fn take(&mut self, id: RequestId) -> Option<Asker> {
        let place = id.0 as u32;
        let slot = self.slots.get_mut(place as usize)?;
        if u64::from(slot.generation) != id.0 >> 32 {
            return None;
        }
        let asker = slot.asker.take()?;
        // A slot whose generations are used up stays empty.
        if let Some(next) = slot.generation.checked_add(1) {
            slot.generation = next;
            self.free.push(place);
        }
        Some(asker)
    }

    /// The numbers of those that somebody waits for.
    pub(super) fn of(&self, whose: impl Fn(&Asker) -> bool) -> Vec<RequestId> {
        let each = self.slots.iter().enumerate();
        let theirs = each.filter(|(_, slot)| slot.asker.as_ref().is_some_and(&whose));
        theirs.map(|(place, slot)| RequestId(u64::from(slot.generation) << 32 | place as u64)).collect()
    }

    /// Takes all.
    pub(super) fn drain(&mut self) -> Vec<Asker> {
        self.slots.iter_mut().filter_map(|slot| slot.asker.take()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_whose_it_was_once() {
        let mut requests = Requests::default();
        let (one, two) = (requests.add(Asker::Nobody), requests.add(Asker::Nobody));
        assert_ne!(one, two);
        assert!(requests.take(one).is_some());
        assert!(requests.take(one).is_none());
        let three = requests.add(Asker::Nobody);
        assert_ne!(three, one, "the slot is the same, the number is not");
        assert!(requests.take(one).is_none());
        assert_eq!(requests.of(|_| true), [three, two]);
    }
}
