//! How messages travel and records are kept: by value, for speed, or through bytes, as in a real cluster.

use crate::check::Violation;
use crate::protocol::Protocol;
use crate::random::Random;

/// What stands between a machine and the network and the disk.
pub trait Medium<P: Protocol> {
    /// A message under way.
    type Parcel;
    /// A process's journal; it outlives the process.
    type Journal: Journal<P>;

    /// An empty journal; what differs from one to the next follows from `word`.
    fn journal(word: u64) -> Self::Journal;

    /// Wraps a message.
    fn pack(message: P::Message) -> Self::Parcel;

    /// Unwraps it.
    fn open(parcel: Self::Parcel) -> Result<P::Message, Damage>;

    /// The same again.
    fn copy(parcel: &Self::Parcel) -> Self::Parcel;

    /// Damages it, as `word` says. `None` when nothing of it could be recognised.
    fn damage(parcel: Self::Parcel, word: u64) -> Option<Self::Parcel>;
}

/// What a process writes down. A sync covers all that was appended before it began; the world says when it begins and
/// when it ends.
pub trait Journal<P: Protocol> {
    /// Appends a record, which is not durable yet.
    fn append(&mut self, record: P::Record);

    /// Appends a record that replaces all before it once it is durable.
    fn checkpoint(&mut self, record: P::Record);

    /// A sync begins. None else is under way.
    #[inline]
    fn begin_sync(&mut self) {}

    /// The sync under way, which covers the first `count` appends of this life, ends; with a word, it fails as that
    /// says. Returns how many appends of this life are durable.
    fn end_sync(&mut self, count: u64, failing: Option<u64>) -> Result<u64, Failed>;

    /// The process crashed: what was not durable survives in part, or not at all.
    fn crash(&mut self, random: &mut Random);

    /// A bit of what is on the disk flips. Tells whether one did.
    fn rot(&mut self, random: &mut Random) -> bool {
        let _ = random;
        false
    }

    /// What a new life is to begin with, in order.
    fn recover(&mut self, random: &mut Random) -> Result<Vec<P::Record>, Damage>;
}

/// The disk has failed under a journal. It is not tried again: the driver drops the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the disk has failed")]
pub struct Failed;

/// Something is not as it was sent, or as it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It was noticed, as it must be: a message is lost, a process stays down.
    #[error("damaged: {0}")]
    Noticed(String),
    /// It was not; or what was sound was refused. The medium has a bug.
    #[error(transparent)]
    Missed(#[from] Violation),
}

/// By value: nothing is encoded. A damaged message is one that its checksum would have refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values;

impl<P: Protocol> Medium<P> for Values {
    type Parcel = P::Message;
    type Journal = ValueJournal<P::Record>;

    fn journal(_word: u64) -> Self::Journal {
        ValueJournal::default()
    }

    #[inline]
    fn pack(message: P::Message) -> P::Message {
        message
    }

    #[inline]
    fn open(parcel: P::Message) -> Result<P::Message, Damage> {
        Ok(parcel)
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
    fn end_sync(&mut self, count: u64, failing: Option<u64>) -> Result<u64, Failed> {
        if failing.is_some() {
            return Err(Failed);
        }
        let fresh = count.saturating_sub(self.synced);
        self.keep((fresh as usize).min(self.queued.len()));
        self.synced = self.synced.max(count);
        Ok(self.synced)
    }

    fn crash(&mut self, random: &mut Random) {
        self.keep(random.below(self.queued.len() as u64 + 1) as usize);
        self.queued.clear();
        self.synced = 0;
    }

    fn recover(&mut self, _random: &mut Random) -> Result<Vec<P::Record>, Damage> {
        Ok(self.durable.clone())
    }
}
