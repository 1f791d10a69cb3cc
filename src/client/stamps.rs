//! The numbers of a session's commands: which are given, and which are answered.

use std::collections::VecDeque;

use crate::replica::{SessionId, SessionStamp};

/// The commands of one session.
#[derive(Debug)]
pub(super) struct Stamps {
    session: SessionId,
    /// All before this one are answered.
    answered_below: u64,
    /// From there on: which are.
    answered: VecDeque<bool>,
}

impl Stamps {
    pub(super) const fn new(session: SessionId) -> Self {
        // Numbers count from 1, so that a stamp of zeros is nobody's.
        Self { session, answered_below: 1, answered: VecDeque::new() }
    }

    pub(super) const fn session(&self) -> SessionId {
        self.session
    }

    /// How far the latest command is ahead of the first that waits: so many results the members may have to keep.
    pub(super) fn span(&self) -> usize {
        self.answered.len()
    }

    /// Whether no command waits.
    pub(super) fn is_settled(&self) -> bool {
        self.answered.is_empty()
    }

    /// The stamp of the next command.
    pub(super) fn next(&mut self) -> SessionStamp {
        let sequence = self.answered_below + self.answered.len() as u64;
        self.answered.push_back(false);
        SessionStamp { session: self.session, sequence, answered_below: self.answered_below }
    }

    /// Nobody waits for that command any more, whatever becomes of it.
    pub(super) fn settle(&mut self, sequence: u64) {
        let place = sequence.checked_sub(self.answered_below).map(|place| place as usize);
        if let Some(answered) = place.and_then(|place| self.answered.get_mut(place)) {
            *answered = true;
        }
        while self.answered.front() == Some(&true) {
            self.answered.pop_front();
            self.answered_below += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_out_of_order_is_told_when_all_before_it_is() {
        let mut stamps = Stamps::new(9);
        let first = stamps.next();
        assert_eq!(first, SessionStamp { session: 9, sequence: 1, answered_below: 1 });
        let (second, third) = (stamps.next(), stamps.next());
        stamps.settle(second.sequence);
        assert_eq!((stamps.next().answered_below, stamps.span()), (1, 4));
        stamps.settle(first.sequence);
        assert_eq!((stamps.next().answered_below, stamps.span()), (3, 3));
        stamps.settle(first.sequence);
        stamps.settle(third.sequence);
        stamps.settle(4);
        assert!(!stamps.is_settled());
        stamps.settle(5);
        assert!(stamps.is_settled());
        assert_eq!(stamps.next(), SessionStamp { session: 9, sequence: 6, answered_below: 6 });
    }
}
