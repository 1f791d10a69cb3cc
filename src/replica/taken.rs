//! Which forwarded commands a leader has taken, so that it takes none twice.

use std::collections::BTreeMap;

use super::Token;
use crate::id::NodeId;
use crate::raft::Term;

/// The tokens that were seen in one term. A forwarded command names the term whose leader shall take it, and nobody
/// leads a term twice, nor after a restart: so what is remembered of one term, in memory, suffices for ever.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Taken {
    term: Term,
    /// Ranges of tokens, which neither touch nor overlap: (who, first) → the one after the last.
    ranges: BTreeMap<(NodeId, Token), Token>,
}

/// More gaps in what a member's peers send than honest loss makes.
const RANGES_MAX: usize = 1 << 14;

impl Taken {
    /// Nothing that names a term through `term` is taken: an earlier life may have taken it.
    pub(super) const fn after(term: Term) -> Self {
        Self { term: term + 1, ranges: BTreeMap::new() }
    }

    /// Claims `count` tokens of `from`, for the leader of `term`; whether they are new. Tokens of the same life
    /// before `settled` are not waited for any more, and never new.
    pub(super) fn claim(
        &mut self,
        term: Term,
        from: NodeId,
        life: Token,
        settled: Token,
        (first, count): (Token, u64),
    ) -> bool {
        if term < self.term {
            return false;
        }
        if term > self.term {
            *self = Self { term, ranges: BTreeMap::new() };
        }
        if self.ranges.len() >= RANGES_MAX {
            return false;
        }
        self.cover(from, life, settled);
        let end = first + count;
        let last = self.ranges.range(..(from, end)).next_back();
        if last.is_some_and(|((who, _), known)| *who == from && *known > first) {
            return false;
        }
        self.cover(from, first, end);
        true
    }

    /// Adds `start..end`, in one range with all that it touches.
    fn cover(&mut self, from: NodeId, start: Token, end: Token) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        while let Some((&(who, first), &last)) = self.ranges.range(..=(from, end)).next_back() {
            if who != from || last < start {
                break;
            }
            self.ranges.remove(&(who, first));
            start = start.min(first);
            end = end.max(last);
        }
        self.ranges.insert((from, start), end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use std::collections::BTreeSet;

    const PEER: NodeId = NodeId(2);

    #[test]
    fn a_term_that_an_earlier_life_may_have_led_is_not_led_again() {
        let mut taken = Taken::after(3);
        assert!(!taken.claim(3, PEER, 100, 100, (100, 1)));
        assert!(taken.claim(4, PEER, 100, 100, (100, 1)));
        assert!(taken.claim(5, PEER, 100, 100, (100, 1)), "another term's leader takes it anew");
        assert!(!taken.claim(4, PEER, 100, 100, (101, 1)), "that term is over");
    }

    #[test]
    fn each_token_is_new_once_in_any_order_and_what_is_remembered_does_not_grow() {
        let mut random = Random::new(1);
        let mut taken = Taken::after(0);
        let mut seen: BTreeMap<NodeId, BTreeSet<Token>> = BTreeMap::new();
        for step in 0..20_000u64 {
            let from = NodeId(random.below(3));
            let life = 1_000_000 * from.0;
            let now = life + step / 3;
            let first = (now + random.below(40)).max(life);
            let settled = now.max(life).min(first);
            let (seen, range) = (seen.entry(from).or_default(), first..first + 1 + random.below(3));
            let fresh = range.clone().all(|token| !seen.contains(&token));
            let claimed = taken.claim(1, from, life, settled, (first, range.end - range.start));
            assert_eq!(claimed, fresh, "{from} {range:?}");
            seen.extend(if claimed { range } else { 0..0 });
            seen.extend(settled.saturating_sub(30)..settled);
            assert!(taken.ranges.len() < 3 * 45);
        }
    }
}
