//! Backends that fail are set aside for a while, and come back slowly.

use std::time::Duration;

use super::Slot;
use super::balancer::Event;
use super::policy::{Outcome, cell};
use crate::random::Random;
use crate::time::Instant;

/// When a backend is ejected, for how long, and when ejection stops helping.
#[derive(Clone, Debug)]
pub struct HealthSettings {
    /// Ejected after so many failures in a row; 0 turns this rule off.
    pub consecutive_failures: u32,
    /// Ejected when fewer than this share of the window's requests succeeded; 0.0 turns this rule off.
    pub success_rate_min: f64,
    /// What the success rate looks back on.
    pub window: Duration,
    /// The success rate says nothing about fewer requests than this.
    pub window_requests_min: u32,
    /// The first ejection's length; one that follows soon lasts a multiple of it.
    pub ejection_time: Duration,
    /// No ejection lasts longer.
    pub ejection_time_max: Duration,
    /// The share of backends that may be ejected at once; one always may.
    pub ejected_max: f64,
    /// With fewer than this share of healthy backends, health is ignored.
    pub panic_threshold: f64,
    /// How long a returning backend takes to its full share.
    pub slow_start: Duration,
}

/// Outlier ejection, with a limit and a panic threshold that never act in silence.
///
/// The rules are Envoy's (outlier detection), with two lessons: a limit below one backend never disables ejection
/// (envoyproxy/envoy#12076), and a success rate is taken over a sliding window, since a moving average misjudges
/// rare traffic (linkerd/linkerd2-proxy#4561).
#[derive(Clone, Debug)]
pub struct Healthy {
    settings: HealthSettings,
    health: Vec<Health>,
    random: Random,
    panicking: bool,
    not_ejected: u64,
}

/// Pieces of the sliding window.
const PIECES: usize = 10;
/// A returning backend starts with this share.
const WARMTH_MIN: f64 = 0.1;

#[derive(Clone, Debug, Default)]
struct Health {
    failures_in_a_row: u32,
    window: Window,
    ejected: Option<Ejection>,
    /// How many ejections followed each other closely.
    streak: u32,
    returned: Option<Instant>,
    /// The limit keeps it in service although it should be out, and has said so.
    spared: bool,
}

#[derive(Clone, Debug)]
struct Ejection {
    until: Instant,
    cause: String,
}

/// Successes and failures by piece of the window; a piece is cleared when its turn comes again.
#[derive(Clone, Debug, Default)]
struct Window {
    pieces: [(u64, u32, u32); PIECES],
}

impl Window {
    fn add(&mut self, piece: u64, ok: bool) {
        let cell = &mut self.pieces[(piece % PIECES as u64) as usize];
        if cell.0 != piece {
            *cell = (piece, 0, 0);
        }
        if ok { cell.1 += 1 } else { cell.2 += 1 }
    }

    fn sum(&self, piece: u64) -> (u32, u32) {
        self.pieces
            .iter()
            .filter(|cell| cell.0 + PIECES as u64 > piece)
            .fold((0, 0), |sum, cell| (sum.0 + cell.1, sum.1 + cell.2))
    }
}

impl Healthy {
    /// Nothing is ejected at first. `seed` draws which requests a warming backend gets.
    pub fn new(settings: HealthSettings, seed: u64) -> Self {
        // Split, because a policy of the same seed would otherwise draw the same words: "admitted" would then
        // mean "low", and a low word the first candidate.
        let random = Random::new(seed).split();
        Self { settings, health: Vec::new(), random, panicking: false, not_ejected: 0 }
    }

    /// Whether health was ignored at the last pick, because too few backends were healthy.
    pub fn panicking(&self) -> bool {
        self.panicking
    }

    /// Backends that the limit has kept in service, each counted once until it succeeds again or goes.
    pub fn not_ejected(&self) -> u64 {
        self.not_ejected
    }

    pub(super) fn welcome(&mut self, now: Instant, slot: Slot, first: bool) {
        *cell(&mut self.health, slot) = Health::default();
        // The backends that a balancer starts with are as warm as each other; only a late one warms up.
        if !first {
            self.health[slot as usize].returned = Some(now);
        }
    }

    pub(super) fn forget(&mut self, slot: Slot) {
        *cell(&mut self.health, slot) = Health::default();
    }

    /// Takes the ejected out of `candidates`, unless too few would be left.
    pub(super) fn narrow(&mut self, now: Instant, candidates: &mut Vec<Slot>, events: &mut Vec<Event>) {
        for &slot in candidates.iter() {
            self.readmit(now, slot, events);
        }
        let healthy = candidates.iter().filter(|&&slot| self.ejected(slot).is_none()).count();
        let panicking = healthy < candidates.len()
            && (healthy as f64) < self.settings.panic_threshold * candidates.len() as f64;
        if panicking != self.panicking {
            self.panicking = panicking;
            events.push(if panicking {
                Event::Panicking { healthy, backends: candidates.len() }
            } else {
                Event::Calmed { healthy, backends: candidates.len() }
            });
        }
        if panicking {
            return;
        }
        candidates.retain(|&slot| self.ejected(slot).is_none());
        self.hold_back_the_warming(now, candidates);
    }

    /// Learns how a request ended, and ejects its backend if that is enough. `backends` share the limit.
    pub(super) fn done(
        &mut self,
        now: Instant,
        slot: Slot,
        outcome: Outcome,
        backends: &[Slot],
        events: &mut Vec<Event>,
    ) {
        let ok = match outcome {
            Outcome::Answered(_) => true,
            Outcome::Failed(_) => false,
            Outcome::Abandoned(_) => return,
        };
        let piece = self.piece(now);
        let health = cell(&mut self.health, slot);
        if health.ejected.is_some() {
            return; // a straggler from before says nothing new
        }
        health.failures_in_a_row = if ok { 0 } else { health.failures_in_a_row + 1 };
        health.window.add(piece, ok);
        if ok {
            health.spared = false;
            return;
        }
        if let Some(cause) = self.verdict(slot, piece) {
            self.eject(now, slot, cause, backends, events);
        }
    }

    /// Why `slot` is out now, in words, and until when.
    pub(super) fn refusal(&self, now: Instant, slot: Slot) -> Option<String> {
        self.ejected(slot).filter(|ejection| ejection.until > now).map(|ejection| {
            let left = (ejection.until - now).as_secs_f64();
            format!("ejected for another {left:.1} s: {}", ejection.cause)
        })
    }

    /// The share of its requests that `slot` gets while it warms up; `None` when it is warm.
    pub(super) fn warmth(&self, now: Instant, slot: Slot) -> Option<f64> {
        let returned = self.health.get(slot as usize)?.returned?;
        let age = now - returned;
        (age < self.settings.slow_start)
            .then(|| (age.as_secs_f64() / self.settings.slow_start.as_secs_f64()).max(WARMTH_MIN))
    }

    fn ejected(&self, slot: Slot) -> Option<&Ejection> {
        self.health.get(slot as usize)?.ejected.as_ref()
    }

    fn readmit(&mut self, now: Instant, slot: Slot, events: &mut Vec<Event>) {
        let health = cell(&mut self.health, slot);
        let Some(ejection) = health.ejected.take_if(|ejection| ejection.until <= now) else { return };
        health.returned = Some(ejection.until);
        health.failures_in_a_row = 0;
        health.window = Window::default();
        events.push(Event::Returned { slot });
    }

    /// A warming backend is a candidate for as many requests as its weight times its age would give it. That
    /// multiplies its share under every policy, weighted or not.
    fn hold_back_the_warming(&mut self, now: Instant, candidates: &mut Vec<Slot>) {
        if self.settings.slow_start.is_zero() {
            return;
        }
        let warm = candidates.iter().filter(|&&slot| self.warmth(now, slot).is_none()).count();
        if warm == 0 {
            return; // all are as cold: there is nobody to spare them
        }
        let mut random = self.random.clone();
        candidates.retain(|&slot| self.warmth(now, slot).is_none_or(|warmth| random.unit() < warmth));
        self.random = random;
    }

    fn piece(&self, now: Instant) -> u64 {
        let window = u64::try_from(self.settings.window.as_nanos()).unwrap_or(u64::MAX);
        let length = (window / PIECES as u64).max(1);
        // One window later than the clock, so that an empty piece (0) is never within the window.
        now.as_nanos() / length + 2 * PIECES as u64
    }

    fn verdict(&self, slot: Slot, piece: u64) -> Option<String> {
        let health = &self.health[slot as usize];
        let limit = self.settings.consecutive_failures;
        if limit > 0 && health.failures_in_a_row >= limit {
            let failures = health.failures_in_a_row;
            return Some(format!("{failures} failure{} in a row", if failures == 1 { "" } else { "s" }));
        }
        let (good, bad) = health.window.sum(piece);
        let requests = good + bad;
        let rate = f64::from(good) / f64::from(requests.max(1));
        (requests >= self.settings.window_requests_min && rate < self.settings.success_rate_min)
            .then(|| format!("{:.0} % of {requests} requests succeeded", rate * 100.0))
    }

    fn eject(&mut self, now: Instant, slot: Slot, cause: String, backends: &[Slot], events: &mut Vec<Event>) {
        for &other in backends {
            self.readmit(now, other, events);
        }
        let ejected = backends.iter().filter(|&&other| self.ejected(other).is_some()).count();
        let limit = ((self.settings.ejected_max * backends.len() as f64 + 1e-9).floor() as usize).max(1);
        if ejected >= limit {
            // Once until it changes: an outage is no time for a flood of news.
            if !std::mem::replace(&mut self.health[slot as usize].spared, true) {
                self.not_ejected += 1;
                events.push(Event::NotEjected { slot, cause, ejected, limit });
            }
            return;
        }
        let settings = &self.settings;
        let health = &mut self.health[slot as usize];
        // Who fails again soon after its return stays away longer.
        let soon = health.returned.is_some_and(|returned| {
            now - returned < settings.ejection_time.saturating_mul(2 * (health.streak + 1))
        });
        health.streak = if soon { health.streak + 1 } else { 1 };
        let length = settings.ejection_time.saturating_mul(health.streak).min(settings.ejection_time_max);
        events.push(Event::Ejected { slot, cause: cause.clone(), length });
        health.ejected = Some(Ejection { until: now + length, cause });
        health.spared = false;
    }
}
