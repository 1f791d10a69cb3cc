//! Points on a circle, and the first one at or after a hash.

use std::cmp::Ordering;
use std::iter::Chain;
use std::slice::Iter;

use super::{Distinct, Node};

/// A point before it is on the circle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) high: u64,
    pub(super) low: u64,
    pub(super) owner: u32,
}

impl Placed {
    /// Equal points belong to the smaller name; the larger one stays behind it, for when the other leaves.
    fn order(&self, other: &Self, nodes: &[Node]) -> Ordering {
        (self.high, self.low)
            .cmp(&(other.high, other.low))
            .then_with(|| nodes[self.owner as usize].name.cmp(&nodes[other.owner as usize].name))
    }
}

/// The upper half of a point together with its owner: the two that nearly every lookup reads, on one cache line.
#[derive(Clone, Copy, Debug)]
struct Point {
    high: u64,
    owner: u32,
}

/// All points, sorted, under an index by their top bits: hashes are even, so a lookup reads one entry of the
/// index and on average one or two points.
#[derive(Clone, Debug, Default)]
pub(super) struct Points {
    /// The last one repeats the first beyond the end, so that a search needs no bound.
    sorted: Vec<Point>,
    /// Lower halves, compared only when the upper ones are equal.
    low: Vec<u64>,
    /// For each value of the top bits, the first point that is not below it.
    index: Vec<u32>,
    shift: u32,
}

impl Points {
    pub(super) fn new(mut placed: Vec<Placed>, nodes: &[Node]) -> Self {
        placed.sort_unstable_by(|one, other| one.order(other, nodes));
        Self::on_circle(&placed)
    }

    fn on_circle(placed: &[Placed]) -> Self {
        let Some(first) = placed.first() else { return Self::default() };
        let end = Placed { high: u64::MAX, low: u64::MAX, owner: first.owner };
        let points = || placed.iter().chain([&end]);
        let bits = (placed.len().ilog2() + 2).min(24);
        let mut circle = Self {
            sorted: points().map(|&Placed { high, owner, .. }| Point { high, owner }).collect(),
            low: points().map(|point| point.low).collect(),
            index: Vec::with_capacity(1 << bits),
            shift: 64 - bits,
        };
        let mut next = 0;
        for prefix in 0..1u64 << bits {
            while circle.sorted[next].high >> circle.shift < prefix && next < placed.len() {
                next += 1;
            }
            circle.index.push(next as u32);
        }
        circle
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.sorted.len().saturating_sub(1)
    }

    /// The owner of a hash. There is at least one point.
    #[inline]
    pub(super) fn owner(&self, high: u64, low: u64) -> u32 {
        self.sorted[self.search(high, low)].owner
    }

    #[inline]
    fn search(&self, high: u64, low: u64) -> usize {
        let mut at = self.index[(high >> self.shift) as usize] as usize;
        while self.sorted[at].high < high {
            at += 1;
        }
        while self.sorted[at].high == high && self.low[at] < low {
            at += 1;
        }
        at
    }

    /// The owners of the points from a hash on, once around.
    pub(super) fn walk(&self, high: u64, low: u64) -> Walk<'_> {
        let count = self.len();
        // Beyond the last point stands the first one again.
        let start = if count == 0 { 0 } else { self.search(high, low) };
        let (before, after) = self.sorted[..count].split_at(start);
        Walk(after.iter().chain(before))
    }

    /// The first `count` distinct owners from a hash on.
    pub(super) fn several(&self, high: u64, low: u64, nodes: usize, count: usize) -> Vec<u32> {
        let mut distinct = Distinct::new(nodes, count);
        for owner in self.walk(high, low) {
            if distinct.is_full() {
                break;
            }
            distinct.take(owner);
        }
        distinct.fill()
    }

    /// Share of the circle that each of `nodes` nodes owns. A point owns the arc that ends in it.
    pub(super) fn shares(&self, nodes: usize) -> Vec<f64> {
        let mut arcs = vec![0u128; nodes];
        for (owner, length) in self.arcs() {
            arcs[owner as usize] += length;
        }
        arcs.into_iter().map(|arc| arc as f64 / CIRCLE as f64).collect()
    }

    fn arcs(&self) -> impl Iterator<Item = (u32, u128)> + '_ {
        let points = &self.sorted[..self.len()];
        let last = points.last().map_or(0, |point| point.high);
        points.iter().enumerate().map(move |(i, point)| {
            let length = match i.checked_sub(1) {
                Some(before) => u128::from(point.high - points[before].high),
                // The first point's arc begins behind the last one; alone, it is the whole circle.
                None => CIRCLE - u128::from(last - point.high),
            };
            (point.owner, length)
        })
    }

    /// Share of the circle on which `same` says no of the two owners.
    pub(super) fn moved(&self, other: &Self, same: impl Fn(u32, u32) -> bool) -> f64 {
        if self.len() == 0 || other.len() == 0 {
            return if self.len() == other.len() { 0.0 } else { 1.0 };
        }
        let (mut mine, mut theirs) = (0, 0);
        let (mut before, mut moved) = (None, 0u128);
        loop {
            let (here, there) = (self.sorted[mine], other.sorted[theirs]);
            let end = here.high.min(there.high);
            // Hashes run from `before + 1` to `end`, the first time from 0.
            let length = before.map_or(u128::from(end) + 1, |before: u64| u128::from(end - before));
            if !same(here.owner, there.owner) {
                moved += length;
            }
            if end == u64::MAX {
                return moved as f64 / CIRCLE as f64;
            }
            before = Some(end);
            while self.sorted[mine].high <= end && mine < self.len() {
                mine += 1;
            }
            while other.sorted[theirs].high <= end && theirs < other.len() {
                theirs += 1;
            }
        }
    }

    /// These points and some more, whose owner is already in `nodes`: a merge.
    pub(super) fn with(&self, mut more: Vec<Placed>, nodes: &[Node]) -> Self {
        more.sort_unstable_by(|one, other| one.order(other, nodes));
        let mut merged = Vec::with_capacity(self.len() + more.len());
        let mut more = more.into_iter().peekable();
        for point in self.placed() {
            while let Some(new) = more.next_if(|new| new.order(&point, nodes) == Ordering::Less) {
                merged.push(new);
            }
            merged.push(point);
        }
        merged.extend(more);
        Self::on_circle(&merged)
    }

    /// These points without those of one owner; owners above it move down by one.
    pub(super) fn without(&self, owner: u32) -> Self {
        let kept: Vec<Placed> = self
            .placed()
            .filter(|point| point.owner != owner)
            .map(|point| Placed { owner: point.owner - u32::from(point.owner > owner), ..point })
            .collect();
        Self::on_circle(&kept)
    }

    fn placed(&self) -> impl Iterator<Item = Placed> + '_ {
        let points = self.sorted[..self.len()].iter().zip(&self.low);
        points.map(|(&Point { high, owner }, &low)| Placed { high, low, owner })
    }
}

/// Owners of points, once around the circle.
pub(super) struct Walk<'a>(Chain<Iter<'a, Point>, Iter<'a, Point>>);

impl Iterator for Walk<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.0.next().map(|point| point.owner)
    }
}

const CIRCLE: u128 = 1 << 64;
