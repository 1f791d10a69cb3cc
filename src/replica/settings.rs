//! What can be set.

use std::time::Duration;

use crate::raft::{self, InvalidSetting};

use super::HEADER_BYTES;

/// How a replica behaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How its Raft behaves. What was refused is asked again after a heartbeat interval; what got no answer, and
    /// may be sent twice, after an election time-out, then after two, four, and so on.
    pub raft: raft::Settings,
    /// How many requests may be pending, other members' included; beyond it they are refused. Default 65,536.
    pub pending_max: usize,
    /// How many bytes of commands may wait for a leader or for its reply; beyond it they are refused. Default
    /// 64 MiB.
    pub pending_bytes_max: usize,
    /// How long a lease lives on when its holder's connection has ended without goodbye, or the member to which it was
    /// connected is lost, so that the holder can attach itself anew. `None`: as long as its time to live, which bounds
    /// it anyway. A connection may seem lost that is not, so with a grace a lease may end that its holder still
    /// counts on: what a lock guards is safe by its token alone. Default 30 ms.
    pub grace: Option<Duration>,
    /// How long a revision of the store's history can be read at least, if no bound of the store ends it earlier. `None`:
    /// until somebody compacts it. Default 1 h.
    pub history: Option<Duration>,
    /// The bug that is planted.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

/// Bugs of a replica that a test may plant.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A lease ends although it was renewed.
    RenewalIsForgotten,
    /// A leader renews a lease without making sure that it still leads.
    RenewalOfADeposedLeader,
    /// A new leader counts on from when the lease was granted, as far as it knows.
    NewLeaderGrantsNoTime,
    /// Leases do not end by themselves.
    NothingExpires,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// Each of them.
    pub const ALL: &[Self] = &[
        Self::RenewalIsForgotten,
        Self::RenewalOfADeposedLeader,
        Self::NewLeaderGrantsNoTime,
        Self::NothingExpires,
    ];
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            raft: raft::Settings::default(),
            pending_max: 1 << 16,
            pending_bytes_max: 64 << 20,
            grace: Some(Duration::from_millis(30)),
            history: Some(Duration::from_secs(60 * 60)),
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

impl Settings {
    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let complain = |setting, complaint| Err(InvalidSetting { setting, complaint });
        if self.pending_max == 0 {
            return complain("pending_max", "must be positive");
        }
        if self.pending_bytes_max == 0 {
            return complain("pending_bytes_max", "must be positive");
        }
        if self.history == Some(Duration::ZERO) {
            return complain("history", "must be positive");
        }
        if self.raft.entry_bytes_max <= HEADER_BYTES {
            return complain("entry_bytes_max", "must leave room beside a header of 26 bytes");
        }
        self.raft.check()
    }
}
