//! What a store is asked, and what it answers.

use bytes::Bytes;
use std::time::Duration;

/// How often the store has changed. An empty one is at 1.
pub type Revision = u64;

/// Names a lease. 0 is none.
pub type LeaseId = u64;

/// The place in the log of a command that waits.
pub type Ticket = u64;

/// The name that whoever asks gives to a watch.
pub type WatchToken = u64;

/// A key with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision that created it.
    pub create_revision: Revision,
    /// The revision that changed it last.
    pub mod_revision: Revision,
    /// How often it was set since it was created; 1 at first.
    pub version: u64,
    /// With which lease it ends; 0: with none.
    pub lease: LeaseId,
}

/// Some keys, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keys {
    /// This one.
    One(Bytes),
    /// From this one on, before that one.
    Between(Bytes, Bytes),
    /// From this one on.
    From(Bytes),
}

/// Which state is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// The present one.
    Now,
    /// That after this revision.
    At(Revision),
}

/// A reading of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// Which.
    pub keys: Keys,
    /// As of when.
    pub past: Past,
    /// At most so many entries; 0: as many as fit into an answer.
    pub limit: u64,
    /// In which order. With a limit, the first of that order.
    pub sort: Sort,
    /// Leave the values out.
    pub keys_only: bool,
    /// Leave the entries out: count them.
    pub count_only: bool,
    /// Only entries whose `mod_revision` is not outside.
    pub modified: Option<(Revision, Revision)>,
    /// Only entries whose `create_revision` is not outside.
    pub created: Option<(Revision, Revision)>,
}

/// An order of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    /// By what. Equal ones are in the order of their keys.
    pub by: Target,
    /// Which way.
    pub order: Order,
}

/// What entries are sorted by, and compared on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// The key.
    #[default]
    Key,
    /// How often it was set.
    Version,
    /// The revision that created it.
    Created,
    /// The revision that changed it last.
    Modified,
    /// The value.
    Value,
}

/// Which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The least first.
    #[default]
    Ascending,
    /// The greatest first.
    Descending,
}

/// Sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// Which. Not empty.
    pub key: Bytes,
    /// To what; `None`: the value stays, and the key must be there.
    pub value: Option<Bytes>,
    /// What becomes of its lease.
    pub lease: PutLease,
    /// Answer with what was there before.
    pub previous: bool,
}

/// The lease of a key that is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutLease {
    /// It has none from now on.
    None,
    /// It has this one, which must exist.
    With(LeaseId),
    /// It has the one that it had; the key must be there.
    Keep,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets a key.
    Put(Put),
    /// Takes keys away.
    Delete {
        /// Which.
        keys: Keys,
        /// Answer with what was there.
        previous: bool,
    },
    /// Reads, and sees what the steps before it did.
    Range(Range),
}

/// A condition of a transaction: it holds when it holds for each of the keys that are there. A single key that is not
/// there compares as one whose revisions, version and lease are 0; its value equals nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Which keys.
    pub keys: Keys,
    /// How what is there must compare to what is expected.
    pub is: Comparison,
    /// What is expected.
    pub expected: Expected,
}

/// How two things compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// They are the same.
    Equal,
    /// They are not.
    NotEqual,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
}

/// What a comparison is with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A value.
    Value(Bytes),
    /// A version.
    Version(u64),
    /// The revision that created it.
    Created(Revision),
    /// The revision that changed it last.
    Modified(Revision),
    /// Its lease.
    Lease(LeaseId),
}

/// What changes a store. Each takes its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Sets a key. Answered with [`Done::Put`].
    Put(Put),
    /// Takes keys away. Answered with [`Done::Deleted`].
    Delete {
        /// Which.
        keys: Keys,
        /// Answer with what was there.
        previous: bool,
    },
    /// If all conditions hold, does the steps of `success`, else those of `failure`: all of them in one revision, or,
    /// when one of them is refused, none. No step may change a key that another step of its branch changes. A
    /// transaction in a transaction has no encoding. Answered with [`Reply::Transaction`].
    Transaction {
        /// The conditions.
        compares: Vec<Compare>,
        /// If they hold.
        success: Vec<Operation>,
        /// If not.
        failure: Vec<Operation>,
    },
    /// Sets a key, or takes it away (`value` is `None`), if it is as expected: a transaction for which nobody has to
    /// build one. Answered with [`Reply::Swapped`].
    CompareAndSwap {
        /// Which key.
        key: Bytes,
        /// What must be there; `None`: nothing.
        expected: Option<Expected>,
        /// What then.
        value: Option<Bytes>,
        /// Its lease then.
        lease: PutLease,
    },
    /// Begins a lease. Answered with [`Reply::Granted`].
    Grant {
        /// Its name; 0: one that is free.
        lease: LeaseId,
        /// For how long it lives without being renewed.
        ttl: Duration,
        /// The member to which its holder is connected; 0: nobody watches over that.
        home: u64,
    },
    /// Ends a lease: all its keys go, in one revision. Answered with [`Reply::Revoked`].
    Revoke {
        /// Which.
        lease: LeaseId,
    },
    /// The holder of a lease is connected to another member now, or again. Answered with [`Reply::Attached`].
    Attach {
        /// Which lease.
        lease: LeaseId,
        /// Which member.
        home: u64,
    },
    /// Forgets history before a revision, as far as nothing at it or after it needs it. Answered with
    /// [`Reply::Compacted`].
    Compact {
        /// It and what comes after it can be read.
        revision: Revision,
    },
    /// Queues for a lock, or an election: sets `name/` and the lease in hexadecimal, as etcd's clients do. Who has the
    /// oldest key under `name/` holds it. Answered with [`Reply::Locked`] when it is held; until then it waits, if it
    /// shall, in its place in the queue.
    Acquire {
        /// The name.
        name: Bytes,
        /// The key ends with this lease, and so does the waiting. It must exist.
        lease: LeaseId,
        /// What stands under the key: what a leader says of itself.
        value: Bytes,
        /// Whether to queue. Else, when it is held by another, nothing changes, and the answer is [`Reply::Held`].
        wait: bool,
    },
    /// Leaves the queue of a lock, and hands on what was held, in the same entry. Answered with [`Reply::Released`].
    Release {
        /// The name.
        name: Bytes,
        /// Whose place.
        lease: LeaseId,
    },
    /// Ends the alarm, if there is room.
    Disarm,
}

/// What asks a store and changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Reads keys. Answered with [`Done::Range`].
    Range(Range),
    /// Who holds a lock: the oldest key under `name/`. Answered with [`Done::Range`] of one entry or none.
    Holder(Bytes),
    /// One lease. Answered with [`Reply::Lease`].
    Lease(LeaseId),
    /// The names of all leases. Answered with [`Reply::Leases`].
    Leases,
    /// The state as a whole. Answered with [`Reply::Status`].
    Status,
    /// What happened to some keys. Answered with [`Reply::Events`], perhaps much later.
    Watch(Watch),
}

/// A look at what happens to some keys. It is answered once, with all that is there; who wants to hear more asks again
/// from [`Reply::Events`]' `next` on, here or at any other member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Which keys.
    pub keys: Keys,
    /// From which revision on; 0: from the next one on.
    pub from: Revision,
    /// Answer with what was there before each event, as far as history has it.
    pub previous: bool,
    /// Whether to wait until something happens. Else the answer comes at once, and says from where to go on: who
    /// watches keys to which nothing happens learns so that history may be forgotten behind him.
    pub wait: bool,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The key after it. When it was deleted: its name, and the revision of the deletion as `mod_revision`.
    pub entry: Entry,
    /// The key before it, if that was asked for and history has it.
    pub previous: Option<Entry>,
}

/// A kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was set.
    Put,
    /// It was taken away.
    Delete,
}

/// What is known of a lease, beside its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTerms {
    /// For how long it lives without being renewed.
    pub ttl: Duration,
    /// The member to which its holder is connected; 0: nobody watches over that.
    pub home: u64,
    /// The entry that said so: names one connection of one life of the lease.
    pub attachment: u64,
}

/// A store as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// History before it is forgotten.
    pub compacted: Revision,
    /// How many keys there are.
    pub keys: u64,
    /// How many leases there are.
    pub leases: u64,
    /// What all entries and their history weigh, in bytes.
    pub bytes: u64,
    /// Whether the quota was reached: what adds is refused.
    pub alarm: bool,
    /// Sums up all that is replicated.
    pub digest: u64,
}

/// All that is replicated, spelled out: for who compares a store with another one, or with what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The present revision.
    pub revision: Revision,
    /// History before it is forgotten.
    pub compacted: Revision,
    /// Whether the quota was reached.
    pub alarm: bool,
    /// By key and revision: each version that history has. Of a deletion, `create_revision` and `version` are 0.
    pub versions: Vec<Entry>,
    /// Each lease with its keys.
    pub leases: Vec<(LeaseId, LeaseTerms, Vec<Bytes>)>,
    /// By key: who waits for it to be the oldest of its name.
    pub waits: Vec<(Bytes, LeaseId, Vec<Ticket>)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The revision of the store when it was given.
    pub revision: Revision,
    /// What was answered.
    pub reply: Reply,
}

/// What one step gave, alone or in a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The key is set.
    Put {
        /// What was there, if that was asked for.
        previous: Option<Entry>,
    },
    /// The keys are gone.
    Deleted {
        /// How many.
        count: u64,
        /// What was there, if that was asked for.
        previous: Vec<Entry>,
    },
    /// These were read.
    Range {
        /// In the order that was asked for.
        entries: Vec<Entry>,
        /// There are more, beyond the limit or what fits into an answer.
        more: bool,
        /// How many there are in all.
        count: u64,
    },
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What a step alone gave.
    Done(Done),
    /// The transaction is done.
    Transaction {
        /// Whether its conditions held.
        succeeded: bool,
        /// What each step of that branch gave.
        results: Vec<Done>,
    },
    /// Whether the key was as expected, and was set.
    Swapped {
        /// Whether it was.
        swapped: bool,
        /// What was there before.
        previous: Option<Entry>,
    },
    /// The lease has begun.
    Granted {
        /// Its name.
        lease: LeaseId,
        /// Names the connection of its holder, should that be lost.
        attachment: u64,
    },
    /// The lease is over.
    Revoked {
        /// How many keys went with it.
        count: u64,
    },
    /// The lease's holder is known to be there.
    Attached {
        /// Names the connection, should that be lost.
        attachment: u64,
    },
    /// History before it is forgotten.
    Compacted {
        /// That.
        revision: Revision,
    },
    /// The lock is held.
    Locked {
        /// The key that holds it.
        key: Bytes,
        /// The revision that created it: each holder's is greater than all before it.
        token: Revision,
    },
    /// Another holds the lock, and nothing was queued.
    Held {
        /// That one's token.
        token: Revision,
    },
    /// There is no place in the queue any more.
    Released {
        /// Whether there was one.
        was_queued: bool,
    },
    /// A lease.
    Lease {
        /// For how long it lives without being renewed. How much of that is left is what the leader's clock says.
        ttl: Duration,
        /// Its keys, as many as fit into an answer.
        keys: Vec<Bytes>,
    },
    /// The names of leases.
    Leases(Vec<LeaseId>),
    /// The store as a whole.
    Status(Status),
    /// What happened, in the order of the revisions, and those of one revision, which all come together, in the order of
    /// their keys.
    Events {
        /// What.
        events: Vec<Event>,
        /// All before this revision was told.
        next: Revision,
    },
    /// The alarm is off.
    Disarmed,
    /// Nothing changed.
    Refused(Refusal),
}

/// Why a store refuses. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no command, or no query.
    #[error("malformed")]
    Malformed,
    /// History before `revision` is forgotten.
    #[error("what is asked for was compacted; history begins at revision {revision}")]
    Compacted {
        /// The first that can be read.
        revision: Revision,
    },
    /// That revision has not been reached.
    #[error("revision {revision} is not reached yet")]
    Future {
        /// The present one.
        revision: Revision,
    },
    /// The store is full, or would be. Delete, compact, and disarm the alarm.
    #[error("the store may hold {limit} bytes")]
    Quota {
        /// What it may hold.
        limit: u64,
    },
    /// The command, or what it would answer, is too large.
    #[error("{bytes} bytes; {limit} may be")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The transaction has too many steps or conditions.
    #[error("a transaction of {count}; {limit} may be")]
    TooMany {
        /// How many.
        count: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Two steps of one branch change the same key.
    #[error("two steps of a transaction change the same key")]
    DuplicateKey,
    /// A key is empty.
    #[error("a key must not be empty")]
    EmptyKey,
    /// What shall stay as it is, is not there.
    #[error("the key is not there")]
    KeyNotFound,
    /// There is no such lease, or not any more.
    #[error("the lease is not there, or is over")]
    LeaseNotFound,
    /// There is one of that name.
    #[error("there is a lease of that name")]
    LeaseExists,
    /// A lease cannot live so long, or no time at all.
    #[error("a lease's time to live must be positive, and below a hundred years")]
    BadTtl,
}

impl Keys {
    /// All keys.
    pub const fn all() -> Self {
        Self::From(Bytes::new())
    }

    /// Those that begin with `prefix`.
    pub fn prefix(prefix: Bytes) -> Self {
        let keep = prefix.iter().rposition(|byte| *byte < u8::MAX);
        match keep {
            Some(last) => {
                let mut end = prefix[..=last].to_vec();
                end[last] += 1;
                Self::Between(prefix, end.into())
            }
            // Nothing but 255s, or nothing at all: no key comes after what begins so.
            None => Self::From(prefix),
        }
    }

    /// Whether it is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Between(start, end) => &start[..] <= key && key < &end[..],
            Self::From(start) => &start[..] <= key,
        }
    }
}

impl Range {
    /// All of these keys, as they are now, in their order.
    pub const fn of(keys: Keys) -> Self {
        Self {
            keys,
            past: Past::Now,
            limit: 0,
            sort: Sort { by: Target::Key, order: Order::Ascending },
            keys_only: false,
            count_only: false,
            modified: None,
            created: None,
        }
    }

    /// That one key.
    pub const fn one(key: Bytes) -> Self {
        Self::of(Keys::One(key))
    }

    /// As of a revision.
    #[must_use]
    pub const fn at(mut self, revision: Revision) -> Self {
        self.past = Past::At(revision);
        self
    }

    /// At most so many.
    #[must_use]
    pub const fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }
}

impl Put {
    /// Sets `key` to `value`, without a lease.
    pub const fn new(key: Bytes, value: Bytes) -> Self {
        Self { key, value: Some(value), lease: PutLease::None, previous: false }
    }
}

impl Answer {
    /// The refusal, if it is one.
    pub const fn refusal(&self) -> Option<Refusal> {
        match self.reply {
            Reply::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// The key of a lease in the queue of a lock, as etcd's clients write it.
pub fn lock_key(name: &[u8], lease: LeaseId) -> Bytes {
    let mut key = Vec::with_capacity(name.len() + 17);
    key.extend_from_slice(name);
    key.extend_from_slice(format!("/{lease:x}").as_bytes());
    key.into()
}
