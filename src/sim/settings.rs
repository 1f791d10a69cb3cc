//! What a world is like before anything breaks.

use std::time::Duration;

use super::faults::Plan;
use super::latency::Latency;
use super::network::Network;

/// A world.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// All that is drawn follows from it.
    pub seed: u64,
    /// How many processes there are: `NodeId` 1 to this.
    pub members: u64,
    /// The links between them.
    pub network: Network,
    /// Their disks.
    pub disk: Disk,
    /// Their clocks.
    pub clock: Clocks,
    /// How long an application needs until it asks what it wants to ask after an event. Default: no time.
    pub apply: Latency,
    /// A process looks for inputs this often (rounded up to a power of two of nanoseconds), so that several may be
    /// due at once. Zero: at once. Default 16 µs.
    pub poll: Duration,
    /// How many inputs that are due a process takes at most before `flush`; it draws from 1 to this. Default 8.
    pub batch_max: u64,
    /// What breaks.
    pub faults: Plan,
    /// How many of the last events are kept. Default 256.
    pub trace_rows: usize,
    /// Keep all events, with their words. Slow.
    pub record: bool,
}

/// What disks are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Disk {
    /// How long a sync takes. Default 100 µs and a tail of 100 µs.
    pub sync: Latency,
}

/// What clocks are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Each shows a drawn time up to this when the world begins. Default one hour.
    pub skew_max: Duration,
    /// Each runs too fast or too slow by a drawn share up to this many parts in a million. Default 0.
    pub drift_ppm_max: i64,
}

impl Default for Disk {
    fn default() -> Self {
        Self { sync: Latency::new(Duration::from_micros(100), Duration::from_micros(100)) }
    }
}

impl Default for Clocks {
    fn default() -> Self {
        Self { skew_max: Duration::from_secs(3600), drift_ppm_max: 0 }
    }
}

impl Settings {
    /// `members` processes in a world where nothing breaks.
    pub fn new(seed: u64, members: u64) -> Self {
        Self {
            seed,
            members,
            network: Network::default(),
            disk: Disk::default(),
            clock: Clocks::default(),
            apply: Latency::fixed(Duration::ZERO),
            poll: Duration::from_micros(16),
            batch_max: 8,
            faults: Plan::none(),
            trace_rows: 256,
            record: false,
        }
    }
}
