//! Room for large buffers in memory that a pool and its workers share: written once, read where it lies.
//!
//! ```text
//!  words   │ h T T │ . │ h │ h T T T T T T T │ . . . │    one a granule: free, a head, or a tail
//!  bytes   │ 32 KiB … each                              │
//!  views   │ worker 0: one bit a granule │ worker 1: … │
//! ```
//!
//! An extent is a head and the tails that follow it. Its head's word says whose it is, and counts how often that granule
//! became a head, so that who remembers an extent can tell it from a later one in the same place. Whoever needs room
//! takes it by compare-and-swap, granule by granule from the head on; whoever gives it back frees the tails from the end
//! and the head last. So at any moment each tail belongs to the head before it, and an owner that dies in the middle of
//! anything leaves what the pool can sweep: no lock, no list, no count that could be wrong.
//!
//! Whose an extent is:
//! - *Arguments* are the pool's until the worker that reads the message takes them over, by one compare-and-swap on the
//!   head. The worker frees them when it drops the last object that looks at them; the pool, when nobody has taken them
//!   over and nobody will. Of an item that may be tried again the worker takes a copy.
//! - *Results* are the worker's until the pool reads the message and takes them over.
//! - *Shared* extents are the pool's, until it drops them: then they are orphans, and go when no worker looks at them.
//!   Each worker has a bit for each granule. It sets its bit first and looks at the owner afterwards; the pool makes an
//!   orphan first and looks at the bits afterwards; a worker that looks away clears its bit first. All of that is
//!   sequentially consistent, so whoever is last sees that it is.
//! - *Pinned* extents were looked at when this process forked: the child sees them, so they are never used again.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::process;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Bytes of a granule: the smallest extent.
pub const GRANULE: usize = 1 << 15;
/// A buffer of this many bytes or more travels through the arena: a smaller one is copied faster than it is placed.
pub const THRESHOLD: usize = 1 << 15;
/// Extents of this size begin where a huge page does.
const HUGE: usize = 1 << 21;

const OWNER: u64 = 0xffff;
const GENERATION: u64 = 1 << 16;
const FREE: u64 = 0;
const POOL: u64 = 1;
const WORKERS: u64 = 2;
/// The pool gives it back: no worker can take it over any more.
const LEAVING: u64 = 0xfffc;
const PINNED: u64 = 0xfffd;
const ORPHAN: u64 = 0xfffe;
const TAIL: u64 = 0xffff;

/// Who somebody is among those who share an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The process that made it.
    Pool,
    /// A worker.
    Worker(usize),
}

impl Party {
    const fn word(self) -> u64 {
        match self {
            Self::Pool => POOL,
            Self::Worker(worker) => WORKERS + worker as u64,
        }
    }
}

/// Where bytes lie: as it stands in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The extent's first granule, and which extent that began there it is.
    pub head: u32,
    /// See `head`.
    pub generation: u64,
    /// Where the bytes begin in the extent, and how many there are.
    pub offset: usize,
    /// See `offset`.
    pub length: usize,
}

/// Shared memory, carved into granules.
pub struct Arena {
    /// Below this granule nothing is free, unless somebody has just freed it.
    lowest: NonNull<AtomicU64>,
    words: NonNull<AtomicU64>,
    views: NonNull<AtomicU64>,
    base: NonNull<u8>,
    granules: usize,
    workers: usize,
    party: Party,
    /// Of this process: what its objects look at, by head.
    looks: Mutex<BTreeMap<u32, Look>>,
    /// In the pool's process: what is shared, by head.
    shared: Mutex<BTreeMap<u32, Weak<Shared>>>,
    /// Gives free memory back to the system.
    release: Option<fn(NonNull<u8>, usize)>,
    retired: AtomicU32,
    /// The process whose arena this is. A forked child of it has another's bytes before it, and no index.
    process: u32,
    _memory: Arc<dyn Any + Send + Sync>,
}

/// Objects that look at an extent.
#[derive(Debug, Default)]
struct Look {
    count: u32,
    pinned: bool,
}

// SAFETY: pointers into memory that `_memory` keeps; words and views are atomic, and bytes are touched by the extent's owner alone.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// How the memory of an arena is laid out: bytes of words and views, and of granules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many granules.
    pub granules: usize,
    /// How many workers.
    pub workers: usize,
}

impl Layout {
    /// With at most so many bytes for buffers.
    pub const fn of(bytes: usize, workers: usize) -> Self {
        Self { granules: bytes / GRANULE, workers }
    }

    const fn view_words(self) -> usize {
        self.granules.div_ceil(64)
    }

    /// Bytes that come before the granules.
    pub const fn index_bytes(self) -> usize {
        8 * (2 + self.granules + self.workers * self.view_words())
    }

    /// Bytes of the granules.
    pub const fn bytes(self) -> usize {
        self.granules * GRANULE
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Arena({} granules, {:?})", self.granules, self.party)
    }
}

impl Arena {
    /// An arena whose index and granules lie at these places, as this party sees it. `release` gives the memory of free
    /// granules back to the system.
    ///
    /// # Safety
    /// Both must be valid, zeroed when the arena is new, aligned to 8 and to a granule, shared by nobody but the arena's
    /// parties, and as long as `layout` says, while `memory` lives.
    pub unsafe fn new(
        index: NonNull<u8>,
        base: NonNull<u8>,
        layout: Layout,
        party: Party,
        release: Option<fn(NonNull<u8>, usize)>,
        memory: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        assert!(index.as_ptr().addr().is_multiple_of(8) && base.as_ptr().addr().is_multiple_of(4096));
        let lowest = index.cast::<AtomicU64>();
        // SAFETY: inside the index, whose first two words are `lowest` and the counter.
        let words = unsafe { lowest.add(2) };
        Self {
            lowest,
            words,
            // SAFETY: inside the index.
            views: unsafe { words.add(layout.granules) },
            base,
            granules: layout.granules,
            workers: layout.workers,
            party,
            looks: Mutex::default(),
            shared: Mutex::default(),
            release,
            retired: AtomicU32::new(0),
            process: process::id(),
            _memory: memory,
        }
    }

    fn lowest(&self) -> &AtomicU64 {
        // SAFETY: the first word of the index; zero is a value.
        unsafe { self.lowest.as_ref() }
    }

    fn word(&self, granule: usize) -> &AtomicU64 {
        assert!(granule < self.granules);
        // SAFETY: inside the index; zero is a value.
        unsafe { self.words.add(granule).as_ref() }
    }

    fn view(&self, worker: usize, granule: u32) -> (&AtomicU64, u64) {
        assert!(worker < self.workers && (granule as usize) < self.granules);
        let place = worker * self.granules.div_ceil(64) + granule as usize / 64;
        // SAFETY: inside the index; zero is a value.
        (unsafe { self.views.add(place).as_ref() }, 1 << (granule % 64))
    }

    fn at(&self, granule: usize) -> NonNull<u8> {
        assert!(granule <= self.granules);
        // SAFETY: inside the granules, or one past them.
        unsafe { self.base.add(granule * GRANULE) }
    }

    /// Whether this process opened it.
    pub fn is_ours(&self) -> bool {
        process::id() == self.process
    }

    /// Bytes that are free or not: all there are.
    pub fn capacity(&self) -> usize {
        self.granules * GRANULE
    }

    /// Bytes that somebody has.
    pub fn used(&self) -> usize {
        let taken = |&granule: &usize| self.word(granule).load(Ordering::Relaxed) & OWNER != FREE;
        (0..self.granules).filter(taken).count() * GRANULE
    }

    /// Room for `length` bytes, in one piece; nothing when there is none.
    pub fn claim(self: &Arc<Self>, length: usize) -> Option<Slot> {
        let count = length.div_ceil(GRANULE).max(1);
        let lowest = self.lowest().load(Ordering::Relaxed);
        let head = match self.find(lowest as usize, count) {
            Some(head) => head,
            None if lowest > 0 => self.find(0, count)?,
            None => return None,
        };
        if count == 1 {
            // Somebody may free a lower one meanwhile and say so: then this changes nothing.
            let next = head as u64 + 1;
            let _ = self.lowest().compare_exchange(lowest, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        let generation = self.word(head).load(Ordering::Relaxed) / GENERATION;
        self.counter().fetch_add(1, Ordering::Relaxed);
        Some(Slot { arena: Arc::clone(self), head: head as u32, generation })
    }

    /// Takes the first `count` free granules side by side from `start` on.
    fn find(&self, start: usize, count: usize) -> Option<usize> {
        let step = if count * GRANULE >= HUGE { HUGE / GRANULE } else { 1 };
        let mut head = start.next_multiple_of(step);
        'search: while head + count <= self.granules {
            // From the end: what is taken there is skipped with all before it.
            for granule in (head..head + count).rev() {
                if self.word(granule).load(Ordering::Relaxed) & OWNER != FREE {
                    head = (granule + 1).next_multiple_of(step);
                    continue 'search;
                }
            }
            match self.take(head, count) {
                Ok(()) => return Some(head),
                Err(taken) => head = (taken + 1).next_multiple_of(step),
            }
        }
        None
    }

    /// Takes these granules, or none; says which was not free.
    fn take(&self, head: usize, count: usize) -> Result<(), usize> {
        for granule in head..head + count {
            let word = self.word(granule);
            let seen = word.load(Ordering::Relaxed);
            let new = if granule == head {
                (seen + GENERATION) & !OWNER | self.party.word()
            } else {
                seen & !OWNER | TAIL
            };
            // Acquire: what its last owner did to the bytes is over.
            let taken = seen & OWNER == FREE
                && word.compare_exchange(seen, new, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if !taken {
                if granule > head {
                    self.free(head);
                }
                return Err(granule);
            }
        }
        Ok(())
    }

    /// How many granules the extent has.
    fn count(&self, head: usize) -> usize {
        let is_tail = |&granule: &usize| self.word(granule).load(Ordering::Relaxed) & OWNER == TAIL;
        1 + (head + 1..self.granules).take_while(is_tail).count()
    }

    /// Frees an extent that is ours.
    fn free(&self, head: usize) {
        let count = self.count(head);
        if let Some(release) = self.release.filter(|_| self.retired.load(Ordering::Acquire) != 0) {
            release(self.at(head), count * GRANULE);
        }
        self.free_taken(head, count);
    }

    fn free_taken(&self, head: usize, count: usize) {
        for granule in (head..head + count).rev() {
            let word = self.word(granule);
            // Release: what we did to the bytes is over.
            word.store(word.load(Ordering::Relaxed) & !OWNER, Ordering::Release);
        }
        self.lowest().fetch_min(head as u64, Ordering::Relaxed);
    }

    /// Makes the extent another's, if it is still `from`'s.
    fn pass(&self, head: u32, generation: u64, from: u64, to: u64) -> bool {
        let old = (generation * GENERATION) | from;
        let new = (generation * GENERATION) | to;
        (head as usize) < self.granules
            && self
                .word(head as usize)
                .compare_exchange(old, new, Ordering::SeqCst, Ordering::Relaxed)
                .is_ok()
    }

    /// Takes over what a message of `from` brought; nothing when that is not `from`'s, or not as long as it says.
    pub fn adopt(self: &Arc<Self>, place: &Place, from: Party) -> Option<Slot> {
        if !self.pass(place.head, place.generation, from.word(), self.party.word()) {
            return None;
        }
        let slot = Slot { arena: Arc::clone(self), head: place.head, generation: place.generation };
        slot.holds(place).then_some(slot)
    }

    /// Copies bytes that stay the pool's; nothing when the pool has given them back meanwhile.
    pub fn copy(&self, place: &Place, into: &mut [u8]) -> bool {
        let is_there = || {
            (place.head as usize) < self.granules
                && self.is_extent(place.head, place.generation)
                && self.has(place)
        };
        if !is_there() || into.len() != place.length {
            return false;
        }
        // SAFETY: inside the extent. Should another write there already, a mixture is copied, and refused below.
        unsafe {
            let from = self.at(place.head as usize).add(place.offset);
            ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), place.length);
        }
        fence(Ordering::Acquire); // the copy is over before we look again
        is_there()
    }

    fn is_extent(&self, head: u32, generation: u64) -> bool {
        let word = self.word(head as usize).load(Ordering::SeqCst);
        word / GENERATION == generation && !matches!(word & OWNER, FREE | LEAVING | ORPHAN | TAIL)
    }

    fn has(&self, place: &Place) -> bool {
        let size = self.count(place.head as usize) * GRANULE;
        place.offset.checked_add(place.length).is_some_and(|end| end <= size)
    }

    /// Gives back what a worker that is dead had.
    pub fn sweep(&self, worker: usize) {
        let owner = Party::Worker(worker).word();
        for head in 0..self.granules {
            if self.word(head).load(Ordering::Acquire) & OWNER == owner {
                self.free(head);
            }
        }
        for first in (0..self.granules as u32).step_by(64) {
            let (view, _) = self.view(worker, first);
            let seen = view.swap(0, Ordering::SeqCst);
            for bit in (0..64).filter(|bit| seen >> bit & 1 == 1) {
                self.bury_orphan(first + bit);
            }
        }
    }

    /// Frees an orphan at which nobody looks any more.
    fn bury_orphan(&self, head: u32) {
        let seen = self.word(head as usize).load(Ordering::SeqCst);
        if seen & OWNER != ORPHAN {
            return;
        }
        let is_seen = (0..self.workers).any(|worker| {
            let (view, bit) = self.view(worker, head);
            view.load(Ordering::SeqCst) & bit != 0
        });
        // Two may come to this at a time; one of them gets it.
        if !is_seen && self.pass(head, seen / GENERATION, ORPHAN, self.party.word()) {
            self.free(head as usize);
        }
    }

    /// The pool has ended: free memory goes back to the system, now and from now on.
    pub fn retire(&self) {
        self.retired.store(1, Ordering::Release);
        // To walk an arena that nobody ever used would take as long as to end a worker.
        if self.claims() > 0 {
            self.trim();
        }
    }

    /// Free memory goes back to the system. It is taken meanwhile, so that nobody writes to what is given away.
    pub fn trim(&self) {
        let Some(release) = self.release else { return };
        let is_free = |&granule: &usize| self.word(granule).load(Ordering::Relaxed) & OWNER == FREE;
        let mut head = 0;
        while head < self.granules {
            let count = (head..self.granules).take_while(is_free).count();
            if count > 0 && self.take(head, count).is_ok() {
                release(self.at(head), count * GRANULE);
                self.free_taken(head, count);
            }
            head += count.max(1);
        }
    }

    /// How often somebody took an extent.
    pub fn claims(&self) -> u64 {
        self.counter().load(Ordering::Relaxed)
    }

    fn counter(&self) -> &AtomicU64 {
        // SAFETY: the second word of the index; zero is a value.
        unsafe { self.lowest.add(1).as_ref() }
    }

    fn lock_looks(&self) -> MutexGuard<'_, BTreeMap<u32, Look>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner) // nothing panics in there
    }

    fn lock_shared(&self) -> MutexGuard<'_, BTreeMap<u32, Weak<Shared>>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object of this process looks at the extent from now on; it says so when it does no more.
    fn look(&self, head: u32) {
        self.lock_looks().entry(head).or_default().count += 1;
    }

    /// One object less; says whether it was the last, and whether the extent is pinned.
    fn look_away(&self, head: u32) -> (bool, bool) {
        let mut looks = self.lock_looks();
        let Some(look) = looks.get_mut(&head) else { return (true, false) };
        look.count -= 1;
        let (is_last, pinned) = (look.count == 0, look.pinned);
        if is_last {
            looks.remove(&head);
        }
        (is_last, pinned)
    }

    /// This process is about to fork: what its objects look at is never used again, and `keep` is told where it lies.
    pub fn pin(&self, mut keep: impl FnMut(NonNull<u8>, usize)) {
        let mut looks = self.lock_looks();
        for (&head, look) in looks.iter_mut().filter(|(_, look)| !look.pinned) {
            look.pinned = true;
            // Ours, or shared by the pool, which may let go of it now.
            let word = self.word(head as usize);
            let mut seen = word.load(Ordering::SeqCst);
            while let Err(now) =
                word.compare_exchange(seen, seen & !OWNER | PINNED, Ordering::SeqCst, Ordering::SeqCst)
            {
                seen = now;
            }
            keep(self.at(head as usize), self.count(head as usize) * GRANULE);
        }
    }

    /// Which shared extent these bytes lie in, if they lie in one, and where.
    pub fn find_shared(&self, bytes: *const u8, length: usize) -> Option<(Arc<Shared>, Place)> {
        let offset = bytes.addr().checked_sub(self.base.as_ptr().addr())?;
        if offset.checked_add(length)? > self.capacity() {
            return None;
        }
        let shared = self.lock_shared();
        let (&head, found) = shared.range(..=(offset / GRANULE) as u32).next_back()?;
        let found = found.upgrade()?;
        drop(shared); // who drops the last handle takes it, too
        let place =
            Place { head, generation: found.generation, offset: offset - head as usize * GRANULE, length };
        self.has(&place).then_some((found, place))
    }

    /// A worker looks at a shared extent, which the item that it reads keeps alive.
    pub fn view_shared(self: &Arc<Self>, place: &Place) -> Option<View> {
        let Party::Worker(worker) = self.party else { return None };
        if place.head as usize >= self.granules {
            return None;
        }
        self.look(place.head);
        let (view, bit) = self.view(worker, place.head);
        view.fetch_or(bit, Ordering::SeqCst);
        let view = View { arena: Arc::clone(self), head: place.head };
        // Of an item that nobody wants any more the shared extents may have gone: then the view goes at once.
        (self.is_extent(place.head, place.generation) && self.has(place)).then_some(view)
    }
}

/// An extent that is ours.
pub struct Slot {
    arena: Arc<Arena>,
    head: u32,
    generation: u64,
}

impl fmt::Debug for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Slot({}, {})", self.head, self.generation)
    }
}

impl Slot {
    /// Its first `length` bytes, for a message.
    pub fn place(&self, length: usize) -> Place {
        Place { head: self.head, generation: self.generation, offset: 0, length }
    }

    fn holds(&self, place: &Place) -> bool {
        self.arena.has(place)
    }

    /// Where it begins.
    pub fn base(&self) -> NonNull<u8> {
        self.arena.at(self.head as usize)
    }

    /// Copies bytes into it.
    ///
    /// # Panics
    /// They are more than it was claimed for.
    pub fn fill(&self, bytes: &[u8]) {
        assert!(self.holds(&self.place(bytes.len())));
        // SAFETY: the extent is ours, and nobody else looks at it yet.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base().as_ptr(), bytes.len()) };
    }

    /// It was sent: whoever reads the message takes it over, and else whoever buries us gives it back.
    pub fn send(self) {
        let mut slot = std::mem::ManuallyDrop::new(self);
        // SAFETY: it is never dropped, and this is the only time that its part is.
        unsafe { ptr::drop_in_place(&raw mut slot.arena) };
    }

    /// For an object of this process that looks at it.
    pub fn look(self) -> Looked {
        self.arena.look(self.head);
        Looked(self)
    }

    /// Nobody writes to it any more; many may look at it, workers too.
    pub fn share(self) -> Arc<Shared> {
        let (arena, head, generation) = (Arc::clone(&self.arena), self.head, self.generation);
        self.send();
        arena.look(head);
        let shared = Arc::new(Shared { arena: Arc::clone(&arena), head, generation });
        arena.lock_shared().insert(head, Arc::downgrade(&shared));
        shared
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.arena.is_ours() {
            return;
        }
        let own = self.arena.party.word();
        // A worker may have taken it over: then it is not ours to free. A worker's own stays a worker's while it frees
        // it, so that it is swept if the worker dies half-way.
        let leaving = if self.arena.party == Party::Pool { LEAVING } else { own };
        if self.arena.pass(self.head, self.generation, own, leaving) {
            self.arena.free(self.head as usize);
        }
    }
}

/// What keeps an argument's extent in its place.
#[derive(Debug)]
pub enum Keep {
    /// It is the argument's alone.
    Own(Slot),
    /// Others may have it as well.
    Shared(Arc<Shared>),
}

impl Keep {
    /// As [`Slot::send`].
    pub fn send(self) {
        if let Self::Own(slot) = self {
            slot.send();
        }
    }
}

/// An extent at which an object of this process looks.
#[derive(Debug)]
pub struct Looked(Slot);

impl Looked {
    /// Where it begins.
    pub fn base(&self) -> NonNull<u8> {
        self.0.base()
    }
}

impl Drop for Looked {
    fn drop(&mut self) {
        if self.0.arena.is_ours() {
            // Before the slot goes, which then is no longer ours if it was pinned.
            self.0.arena.look_away(self.0.head);
        }
    }
}

/// An extent that nobody writes to; in the pool's process.
pub struct Shared {
    arena: Arc<Arena>,
    head: u32,
    generation: u64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Shared({}, {})", self.head, self.generation)
    }
}

impl Shared {
    /// Where it begins.
    pub fn base(&self) -> NonNull<u8> {
        self.arena.at(self.head as usize)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !self.arena.is_ours() {
            return;
        }
        // Another may be shared in this place only after this one is free.
        self.arena.lock_shared().remove(&self.head);
        let (_, pinned) = self.arena.look_away(self.head);
        if !pinned && self.arena.pass(self.head, self.generation, POOL, ORPHAN) {
            self.arena.bury_orphan(self.head);
        }
    }
}

/// A worker's look at a shared extent.
#[derive(Debug)]
pub struct View {
    arena: Arc<Arena>,
    head: u32,
}

impl View {
    /// Where the extent begins.
    pub fn base(&self) -> NonNull<u8> {
        self.arena.at(self.head as usize)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let Party::Worker(worker) = self.arena.party else { return };
        if !self.arena.is_ours() {
            return;
        }
        let (is_last, pinned) = self.arena.look_away(self.head);
        if is_last && !pinned {
            let (view, bit) = self.arena.view(worker, self.head);
            view.fetch_and(!bit, Ordering::SeqCst);
            self.arena.bury_orphan(self.head);
        }
    }
}

#[cfg(test)]
mod tests;
