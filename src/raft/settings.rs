//! What can be set, with units, bounds and defaults.

use std::time::Duration;

/// How a member of a Raft behaves. All members of a cluster should be given the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The cluster: a journal of another one is refused.
    pub cluster: u64,
    /// How long a follower waits at least for its leader before it campaigns; it draws from one to two of these.
    /// Also how long a leader leads without a quorum's answers. Default 300 ms; more than twice the heartbeat.
    pub election_timeout: Duration,
    /// How often a leader tells that it is there. Default 50 ms.
    pub heartbeat_interval: Duration,
    /// Ask before opening a term (thesis §9.6). Default true.
    pub pre_vote: bool,
    /// A leader without a quorum's answers for an election time-out steps down (§6.2). Default true.
    pub check_quorum: bool,
    /// Leases for reads. `None`, the default: none are granted.
    pub lease: Option<Lease>,
    /// The greatest command, in bytes. Default 1.5 MiB.
    pub entry_bytes_max: usize,
    /// How many bytes of entries go into one message (one entry always does). Default 1 MiB.
    pub message_bytes_max: usize,
    /// How many appends may be on the way to one follower. Default 256.
    pub in_flight_messages_max: usize,
    /// How many bytes of entries may be on the way to one follower. Default 16 MiB.
    pub in_flight_bytes_max: usize,
    /// How many bytes a leader takes that are not yet committed. Default 64 MiB.
    pub uncommitted_bytes_max: usize,
    /// How many bytes of log are kept since the last checkpoint; beyond it, proposals are refused. Default 128 MiB.
    pub log_bytes_max: usize,
    /// After how many bytes of committed log a snapshot is asked for. Default 32 MiB.
    pub snapshot_log_bytes: usize,
    /// After how many committed entries a snapshot is asked for, if that comes first. Default 100,000.
    pub snapshot_log_entries: u64,
    /// How many entries stay behind a snapshot, for followers that are a little late. Default 1,024.
    pub retained_entries: u64,
    /// How many bytes of a snapshot go into one message. Default 256 KiB.
    pub chunk_bytes: usize,
    /// How many requests may be pending (proposals, changes, reads). Default 65,536.
    pub pending_max: usize,
    /// A planted bug, so that a test can see that the judge sees it.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

/// Who answers a beat promises to vote for nobody for `length`; a leader whose quorum promised serves reads alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lease {
    /// How long a leader may count on, from sending the beat. Default 30 ms; heartbeats should come three times as
    /// often.
    pub length: Duration,
    /// What a follower adds, because clocks differ in speed and hers may be the quicker. Default 3 ms.
    pub drift: Duration,
}

impl Default for Lease {
    fn default() -> Self {
        Self { length: Duration::from_millis(30), drift: Duration::from_millis(3) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        const MEBIBYTE: usize = 1 << 20;
        Self {
            cluster: 0,
            election_timeout: Duration::from_millis(300),
            heartbeat_interval: Duration::from_millis(50),
            pre_vote: true,
            check_quorum: true,
            lease: None,
            entry_bytes_max: MEBIBYTE + MEBIBYTE / 2,
            message_bytes_max: MEBIBYTE,
            in_flight_messages_max: 256,
            in_flight_bytes_max: 16 * MEBIBYTE,
            uncommitted_bytes_max: 64 * MEBIBYTE,
            log_bytes_max: 128 * MEBIBYTE,
            snapshot_log_bytes: 32 * MEBIBYTE,
            snapshot_log_entries: 100_000,
            retained_entries: 1024,
            chunk_bytes: MEBIBYTE / 4,
            pending_max: 1 << 16,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

/// A setting that cannot work. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {complaint}")]
pub struct InvalidSetting {
    /// Which.
    pub setting: &'static str,
    /// What is wrong with it.
    pub complaint: &'static str,
}

const GIBIBYTE: usize = 1 << 30;

impl Settings {
    /// Refuses what cannot work.
    pub fn check(&self) -> Result<(), InvalidSetting> {
        let complain = |setting, complaint| Err(InvalidSetting { setting, complaint });
        if self.heartbeat_interval.is_zero() {
            return complain("heartbeat_interval", "must be positive");
        }
        if self.election_timeout < self.heartbeat_interval * 2 {
            return complain("election_timeout", "must be at least twice heartbeat_interval");
        }
        if let Some(lease) = self.lease {
            if lease.length.is_zero() {
                return complain("lease", "its length must be positive");
            }
            if lease.length + lease.drift > self.election_timeout {
                return complain("lease", "its length and drift must not exceed election_timeout");
            }
        }
        for (setting, value) in [
            ("entry_bytes_max", self.entry_bytes_max),
            ("message_bytes_max", self.message_bytes_max),
            ("in_flight_messages_max", self.in_flight_messages_max),
            ("in_flight_bytes_max", self.in_flight_bytes_max),
            ("uncommitted_bytes_max", self.uncommitted_bytes_max),
            ("log_bytes_max", self.log_bytes_max),
            ("snapshot_log_bytes", self.snapshot_log_bytes),
            ("chunk_bytes", self.chunk_bytes),
            ("pending_max", self.pending_max),
        ] {
            if value == 0 {
                return complain(setting, "must be positive");
            }
        }
        if self.snapshot_log_entries == 0 {
            return complain("snapshot_log_entries", "must be positive");
        }
        if self.log_bytes_max > GIBIBYTE {
            return complain(
                "log_bytes_max",
                "must not exceed 1 GiB: a checkpoint holds the log as one record",
            );
        }
        if self.entry_bytes_max > u32::MAX as usize / 4 {
            return complain("entry_bytes_max", "must be below 1 GiB");
        }
        Ok(())
    }
}

/// Planted bugs, one for each way in which a Raft has failed somebody (never in a wheel).
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// Entries of earlier terms are committed by counting (thesis figure 3.7, logcabin#44).
    CommitOfAnEarlierTerm,
    /// A vote leaves before its record is durable (nebula PR 3415).
    VoteBeforeItsRecord,
    /// A request for votes leaves before the candidate's vote for itself is durable.
    VoteRequestBeforeItsRecord,
    /// An append that brings nothing new is acknowledged before the disk has it (yugabyte#32875).
    DuplicateAppendAcknowledgedEarly,
    /// Evidence that the leader is gone ends the lease, not only the stickiness.
    EvidenceEndsTheLease,
    /// The lease counts from the answer and not from the question.
    LeaseCountsFromTheAnswer,
    /// A restarted member votes at once, though it may have granted a lease.
    RestartForgetsTheLease,
    /// A change is accepted while the last is uncommitted (etcd#12359).
    ChangeOverChange,
    /// A transfer outlives its term (hashicorp/raft#696).
    TransferOutlivesItsTerm,
    /// A conflicting log is kept under a snapshot (hashicorp/raft#697).
    ConflictingLogUnderSnapshot,
    /// A read joins a round that began before it came.
    ReusedReadRound,
    /// The match index that commits is the greatest that less than a quorum has (openraft#1802).
    MatchAboveTheQuorum,
    /// An append truncates what is already committed when it is late (nebula PR 2483).
    TruncationBelowCommit,
    /// The commit index is taken from the leader though the tail that it speaks of never arrived (etcd#14143).
    CommitBeyondALostTail,
    /// Who gave a pre-vote and hears the leader again holds on to it, though the candidate has deposed it: false evidence
    /// costs an election time-out.
    PreVoteIsForgotten,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// All that break a promise, so that a judge can see it. The others only cost time.
    pub const ALL: &[Self] = &[
        Self::CommitOfAnEarlierTerm,
        Self::VoteBeforeItsRecord,
        Self::VoteRequestBeforeItsRecord,
        Self::DuplicateAppendAcknowledgedEarly,
        Self::EvidenceEndsTheLease,
        Self::LeaseCountsFromTheAnswer,
        Self::RestartForgetsTheLease,
        Self::ChangeOverChange,
        Self::TransferOutlivesItsTerm,
        Self::ConflictingLogUnderSnapshot,
        Self::ReusedReadRound,
        Self::MatchAboveTheQuorum,
        Self::TruncationBelowCommit,
        Self::CommitBeyondALostTail,
    ];
}
