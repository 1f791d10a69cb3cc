//! Three members in one thread. What one says the others hear, as values or through bytes.

use crate::contestant::{Applied, Contestant};

/// How many members there are.
pub const MEMBERS: usize = 3;

/// The name of the member at this place.
pub fn id(place: usize) -> u64 {
    place as u64 + 1
}

/// Three members, and the messages between them.
pub struct Trio<C: Contestant> {
    members: Vec<C>,
    applied: [Applied; MEMBERS],
    inboxes: [Vec<(u64, C::Message)>; MEMBERS],
    sent: Vec<(u64, C::Message)>,
    read: Vec<(u64, C::Message)>,
    /// Who neither hears nor is heard.
    pub cut: Option<usize>,
    wire: bool,
    buffer: Vec<u8>,
}

impl<C: Contestant> Trio<C> {
    /// Three members who know each other.
    pub fn new(wire: bool) -> Self {
        let ids: Vec<u64> = (0..MEMBERS).map(id).collect();
        Self {
            members: ids.iter().map(|&one| C::new(one, &ids)).collect(),
            applied: Default::default(),
            inboxes: Default::default(),
            sent: Vec::new(),
            read: Vec::new(),
            cut: None,
            wire,
            buffer: Vec::new(),
        }
    }

    /// Delivers until nobody has anything to say.
    pub fn settle(&mut self) {
        loop {
            for place in 0..MEMBERS {
                std::mem::swap(&mut self.read, &mut self.inboxes[place]);
                for (from, message) in self.read.drain(..) {
                    self.members[place].receive(from, message);
                }
                self.members[place].work(&mut self.sent, &mut self.applied[place]);
                self.post(place);
            }
            if self.inboxes.iter().all(Vec::is_empty) {
                return;
            }
        }
    }

    fn post(&mut self, from: usize) {
        for (to, message) in self.sent.drain(..) {
            let place = to as usize - 1;
            if self.cut.is_some_and(|cut| cut == from || cut == place) {
                continue;
            }
            let message = if self.wire {
                self.buffer.clear();
                C::encode(&message, &mut self.buffer);
                C::decode(&self.buffer)
            } else {
                message
            };
            self.inboxes[place].push((id(from), message));
        }
    }

    /// The member at this place.
    pub fn member(&mut self, place: usize) -> &mut C {
        &mut self.members[place]
    }

    /// Who leads among those who are not cut off.
    pub fn leader(&self) -> Option<usize> {
        (0..MEMBERS).find(|&place| self.cut != Some(place) && self.members[place].leads())
    }

    /// A tick passes for all who are not cut off.
    pub fn tick(&mut self) {
        for place in (0..MEMBERS).filter(|&place| self.cut != Some(place)) {
            self.members[place].tick();
        }
        self.settle();
    }

    /// Lets time pass until somebody other than `not` leads.
    pub fn elect(&mut self, not: Option<usize>) -> usize {
        for _ in 0..100_000 {
            match self.leader() {
                Some(leader) if Some(leader) != not => return leader,
                _ => self.tick(),
            }
        }
        panic!("nobody leads after 100,000 ticks");
    }

    /// Lets time pass until all have applied the same.
    pub fn agree(&mut self) {
        for _ in 0..1000 {
            let first = self.members[0].applied_index();
            if self.leader().is_some() && self.members.iter().all(|member| member.applied_index() == first) {
                return;
            }
            self.tick();
        }
        panic!("the members do not agree after 1,000 ticks");
    }

    /// Lets all forget what they have applied.
    pub fn compact(&mut self) {
        self.members.iter_mut().for_each(C::compact);
    }

    /// How many commands each has applied.
    pub fn applied(&self) -> [u64; MEMBERS] {
        std::array::from_fn(|place| self.applied[place].commands)
    }
}
