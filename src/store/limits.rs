//! What a store may hold.

/// The bounds of a store. All members of a cluster must be given the same, because they decide what is applied; they
/// travel with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What entries and their history may weigh together, in bytes: one more, and the alarm goes on, which refuses
    /// what adds until there is room and somebody disarms it. Default 2 GiB.
    pub quota: u64,
    /// How many bytes a command may have. Default 1.5 MiB.
    pub request_bytes_max: u64,
    /// How many bytes of keys and values an answer may carry: a range ends there and says that there is more. Default
    /// 4 MiB.
    pub answer_bytes_max: u64,
    /// How many steps a branch of a transaction may have, and how many conditions. Default 128.
    pub operations_max: u64,
    /// How many revisions of history are kept at most: the store compacts itself, at the same entry everywhere.
    /// 0: all. Default 100,000.
    pub revisions_max: u64,
    /// The bug that is planted.
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quota: 2 << 30,
            request_bytes_max: 3 << 19,
            answer_bytes_max: 4 << 20,
            operations_max: 128,
            revisions_max: 100_000,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

/// Bugs that a test may plant: each is one that somebody once wrote, or nearly.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Compaction at the very revision of a deletion forgets the deletion, and who watches from there misses it
    /// (etcd#18089, etcd#19179).
    CompactionForgetsTheDeletion,
    /// A restart takes the latest revision of a key that is there for the present one: after a deletion, revisions, and
    /// with them the tokens of locks, come twice (etcd#17780).
    RestartFindsTheRevision,
    /// A lock is granted though the lease ended while it waited (etcd#11456).
    LockOfADeadLease,
    /// When a step of a transaction is refused, those before it stay.
    HalfATransaction,
    /// Each step of a transaction has a revision of its own.
    RevisionPerStep,
    /// What was to end a lease when its holder's connection had ended, ends it though he is back.
    ExpiryOfAnotherConnection,
    /// A key that moved to another lease still goes with its first one.
    KeyOfTwoLeases,
    /// A lock is handed on to whoever queued last.
    UnfairQueue,
    /// A restart forgets who waits for a lock.
    RestartForgetsTheQueue,
    /// What happened in one revision is told in two parts, and the second is lost when the first fills an answer.
    EventsSplitARevision,
}

#[cfg(feature = "mutants")]
impl Mutant {
    /// Each of them.
    pub const ALL: &[Self] = &[
        Self::CompactionForgetsTheDeletion,
        Self::RestartFindsTheRevision,
        Self::LockOfADeadLease,
        Self::HalfATransaction,
        Self::RevisionPerStep,
        Self::ExpiryOfAnotherConnection,
        Self::KeyOfTwoLeases,
        Self::UnfairQueue,
        Self::RestartForgetsTheQueue,
        Self::EventsSplitARevision,
    ];
}
