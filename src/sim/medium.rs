//! How messages travel and records are kept: by value, for speed, or through bytes, as in a real cluster.

use crate::protocol::Protocol;
use crate::random::Random;

/// What stands between a machine and the network and the disk.
pub trait Medium<P: Protocol> {
    /// A message under way.
    type Parcel;
    /// A process's journal; it outlives the process.
    type Journal: Journal<P> + Default;

    /// Wraps a message.
    fn pack(message: P::Message) -> Self::Parcel;

    /// Unwraps it; `None` when it arrived damaged.
    fn open(parcel: Self::Parcel) -> Option<P::Message>;

    /// The same again.
    fn copy(parcel: &Self::Parcel) -> Self::Parcel;

    /// Damages it, as `word` says. `None` when nothing of it could be recognised.
    fn damage(parcel: Self::Parcel, word: u64) -> Option<Self::Parcel>;
}

/// What a process writes down. A sync covers all that was appended before it began; the world says when it began and
/// when it has ended.
pub trait Journal<P: Protocol> {
    /// Appends a record, which is not durable yet.
    fn append(&mut self, record: P::Record);

    /// Appends a record that replaces all before it once it is durable.
    fn checkpoint(&mut self, record: P::Record);

    /// The first `count` appends of this life are durable.
    fn synced(&mut self, count: u64);

    /// The process crashed: of what was not durable, a drawn prefix survives.
    fn crash(&mut self, random: &mut Random);

    /// What a new life is to begin with, in order.
    fn recover(&mut self) -> Result<Vec<P::Record>, Damaged>;
}

/// The journal cannot be read; its process stays down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the journal is damaged: {0}")]
pub struct Damaged(pub String);

/// By value: nothing is encoded. A damaged message is one that its checksum would have refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values;

impl<P: Protocol> Medium<P> for Values {
    type Parcel = P::Message;
    type Journal = ValueJournal<P::Record>;

    #[inline]
    fn pack(message: P::Message) -> P::Message {
        message
    }

    #[inline]
    fn open(parcel: P::Message) -> Option<P::Message> {
        Some(parcel)
    }

    fn copy(parcel: &P::Message) -> P::Message {
        parcel.clone()
    }

    fn damage(_parcel: P::Message, _word: u64) -> Option<P::Message> {
        None
    }
}

/// Records by value.
#[derive(Clone, Debug)]
pub struct ValueJournal<R> {
    durable: Vec<R>,
    /// Appended and not yet durable; `true` marks a checkpoint.
    queued: std::collections::VecDeque<(R, bool)>,
    /// How many appends of this life are durable.
    synced: u64,
}

impl<R> Default for ValueJournal<R> {
    fn default() -> Self {
        Self { durable: Vec::new(), queued: std::collections::VecDeque::new(), synced: 0 }
    }
}

impl<R> ValueJournal<R> {
    fn keep(&mut self, count: usize) {
        for (record, replaces) in self.queued.drain(..count) {
            if replaces {
                self.durable.clear();
            }
            self.durable.push(record);
        }
    }
}

impl<P: Protocol> Journal<P> for ValueJournal<P::Record> {
    #[inline]
    fn append(&mut self, record: P::Record) {
        self.queued.push_back((record, false));
    }

    fn checkpoint(&mut self, record: P::Record) {
        self.queued.push_back((record, true));
    }

    #[inline]
    fn synced(&mut self, count: u64) {
        let fresh = count.saturating_sub(self.synced);
        self.keep((fresh as usize).min(self.queued.len()));
        self.synced = self.synced.max(count);
    }

    fn crash(&mut self, random: &mut Random) {
        self.keep(random.below(self.queued.len() as u64 + 1) as usize);
        self.queued.clear();
        self.synced = 0;
    }

    fn recover(&mut self) -> Result<Vec<P::Record>, Damaged> {
        Ok(self.durable.clone())
    }
}
