//! nginx's smooth weighted round robin.

use super::Slot;
use super::policy::{Policy, Request, cell};

/// Each backend in turn, in proportion to its weight, and spread out: 5, 1, 1 gives a a b a c a a.
///
/// At each pick every candidate gains its weight; the one that stands highest is chosen and pays the sum of all
/// gains. The sequence is nginx's (`ngx_http_upstream_get_peer`, commit 52327e0627f4, 2012), ties included: the
/// backend that came first wins them.
#[derive(Clone, Debug, Default)]
pub struct WeightedRoundRobin {
    standings: Vec<Standing>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    weight: f64,
    current: f64,
}

impl Policy for WeightedRoundRobin {
    fn weigh(&mut self, slot: Slot, weight: f64) {
        cell(&mut self.standings, slot).weight = weight;
    }

    fn forget(&mut self, slot: Slot) {
        *cell(&mut self.standings, slot) = Standing::default();
    }

    fn pick(&mut self, _request: Request<'_>, candidates: &[Slot]) -> Option<Slot> {
        let (mut total, mut highest, mut chosen) = (0.0, f64::NEG_INFINITY, candidates[0]);
        for &slot in candidates {
            let standing = &mut self.standings[slot as usize];
            standing.current += standing.weight;
            total += standing.weight;
            if standing.current > highest {
                (highest, chosen) = (standing.current, slot);
            }
        }
        self.standings[chosen as usize].current -= total;
        Some(chosen)
    }
}
