//! What can be set.

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
}

impl Default for Settings {
    fn default() -> Self {
        Self { raft: raft::Settings::default(), pending_max: 1 << 16, pending_bytes_max: 64 << 20 }
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
        if self.raft.entry_bytes_max <= HEADER_BYTES {
            return complain("entry_bytes_max", "must leave room beside a header of 26 bytes");
        }
        self.raft.check()
    }
}
