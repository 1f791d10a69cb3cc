//! The memory that a pool and its workers share: for each worker a page of words and two rings.
//!
//! ```text
//!  ┌──────┬───────────────────────────┬───────────────────────────┬─ ─ ┬───────┐
//!  │ bell │ words │ tasks → │ ← results │ words │ tasks → │ ← results │     │ arena │
//!  └──────┴───────────────────────────┴───────────────────────────┴─ ─ ┴───────┘
//! ```
//!
//! Behind them lies the arena, for processes (`arena.rs`).
//!
//! Each word has one writer, but for `claim`, in which the two sides meet: the worker claims an item, the pool adds
//! items behind it or takes back those that were not claimed, each by compare-and-swap on both counts at once.
//! So an item is either the worker's or the pool's, and a worker that dies leaves no lock behind.
//!
//! The races, and why they end well:
//! - *Sleep.* A worker says that it sleeps, then looks once more, then sleeps on the value of `wake` that it had read
//!   before. The pool publishes, then looks whether it sleeps. Both are sequentially consistent, so at least one
//!   sees the other. The pool's side is the same, with `bell` and `awake`.
//! - *Crash.* A result is in the ring, and `result_tail` past it, before the next item is claimed. So the results
//!   that can be read, and the claims, name the item that ran: the one that is claimed and has no result.
//! - *Taking back.* Unclaimed items are the last in the ring, and a worker never reads past what it claimed. So the
//!   pool sets its tail back and writes over them.

use std::any::Any;
use std::io;
use std::mem;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::arena::{Arena, Layout, Party};

use super::message::{Header, Kind, Number};
use super::ring::{Found, Reader, Ring, Stream, publish};
use super::system::{self, HUGE_PAGE, Mapping, Sleeper, Sleepers, Waited};
use crate::time::Instant;

/// Bytes of one ring. Two of them per worker stay in a core's second-level cache.
pub const RING: usize = 1 << 18;
const PAGE: usize = 4096;
const STRIDE: usize = PAGE + 2 * RING;

/// What all workers share.
#[repr(C)]
#[derive(Debug)]
pub struct PoolWords {
    /// Counts how often a worker wanted attention.
    pub bell: AtomicU32,
    /// How many threads of the pool look by themselves before they sleep, so that nobody need wake them.
    pub awake: AtomicU32,
    /// Who sleeps on the bell, where the system itself does not know.
    asleep: AtomicU32,
    /// Bytes of the arena's granules, written before anybody else looks.
    arena: AtomicU64,
}

/// What one worker and the pool share. Two cache lines each, so that neither side's writes slow the other's.
#[repr(C)]
#[derive(Debug)]
pub struct WorkerWords {
    /// Items claimed (upper half) and items handed over (lower half), both modulo 2^32.
    claim: AtomicU64,
    /// The worker's: results are published up to here.
    result_tail: AtomicU64,
    /// The worker's: tasks are read up to here.
    task_head: AtomicU64,
    /// The worker's: whether it has finished its initializer.
    ready: AtomicU32,
    /// The worker's: whether it sleeps.
    asleep: AtomicU32,
    /// The worker's: nanoseconds that it spent on reading arguments, in calls, on writing results.
    spent: [AtomicU64; 3],
    ours: [u64; 8],
    /// The pool's: tasks are published up to here.
    task_tail: AtomicU64,
    /// The pool's: results are read up to here.
    result_head: AtomicU64,
    /// The pool's: which claim, plus one, a SIGINT is meant for.
    interrupt: AtomicU64,
    /// The pool's: the worker sleeps on it.
    wake: AtomicU32,
    /// The pool's: the claim at which the worker rings for more.
    refill: AtomicU32,
    /// The pool's: leave when there is nothing to do.
    quit: AtomicU32,
    theirs: [u64; 11],
}

/// The shared memory of a pool.
#[derive(Debug)]
pub struct Memory {
    mapping: Mapping,
    sleepers: Sleepers,
    workers: usize,
    arena: Layout,
}

impl Memory {
    /// For workers that are processes, with at most so many bytes for large buffers.
    pub fn shared(workers: usize, arena: usize) -> io::Result<Self> {
        let arena = Layout::of(arena, workers);
        let mapping = Mapping::shared(Self::bytes(workers, arena), Self::granules(workers))?;
        let memory = Self { mapping, sleepers: Sleepers::new(workers)?, workers, arena };
        memory.pool().arena.store(arena.bytes() as u64, Ordering::Release);
        Ok(memory)
    }

    /// For workers that are threads.
    pub fn private(workers: usize) -> io::Result<Self> {
        let arena = Layout::of(0, workers);
        let mapping = Mapping::private(Self::bytes(workers, arena))?;
        Ok(Self { mapping, sleepers: Sleepers::new(workers)?, workers, arena })
    }

    /// As the process of `worker` sees it, which has inherited these descriptors.
    pub fn open(files: &[RawFd], workers: usize, worker: usize) -> io::Result<Self> {
        let (&file, others) = files.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let bytes = system::read_word(file, mem::offset_of!(PoolWords, arena))?;
        let arena = Layout::of(bytes as usize, workers);
        let mapping = Mapping::open(file, Self::bytes(workers, arena), Self::granules(workers))?;
        Ok(Self { mapping, sleepers: Sleepers::open(others, worker)?, workers, arena })
    }

    /// The arena, as this party sees it; nothing when there is no room for any buffer.
    pub fn arena(self: &Arc<Self>, party: Party) -> Option<Arc<Arena>> {
        if self.arena.granules == 0 {
            return None;
        }
        let granules = Self::granules(self.workers);
        let release = |memory: NonNull<u8>, length: usize| system::release(memory, length);
        // SAFETY: both lie inside the mapping, which the arena keeps, and nobody else touches them.
        let arena = unsafe {
            let base = self.mapping.base().add(granules);
            let index = base.add(self.arena.bytes());
            let memory: Arc<dyn Any + Send + Sync> = Arc::clone(self) as _;
            Arena::new(index, base, self.arena, party, Some(release), memory)
        };
        let arena = Arc::new(arena);
        let mut all = arenas();
        all.retain(|(_, arena)| arena.strong_count() > 0);
        all.push((Arc::downgrade(self), Arc::downgrade(&arena)));
        Some(arena)
    }

    fn keep_for_children(&self, memory: NonNull<u8>, length: usize) {
        // If it fails, the child does without: it cannot be told, and need not look.
        let _ = self.mapping.keep_for_children(memory, length);
    }

    /// The descriptors that a worker inherits; none when workers are threads.
    pub fn files(&self, worker: usize) -> Vec<RawFd> {
        self.mapping
            .file()
            .map_or_else(Vec::new, |file| [file].into_iter().chain(self.sleepers.files(worker)).collect())
    }

    /// Whether workers are processes.
    pub fn is_shared(&self) -> bool {
        self.mapping.file().is_some()
    }

    /// Sleeps while its word has this value, until a wake-up, at most until `deadline`.
    pub fn sleep(&self, who: Sleeper, value: u32, deadline: Instant) -> Waited {
        let (word, asleep) = self.bed(who);
        self.sleepers.wait(who, word, asleep, value, deadline)
    }

    /// Wakes him if he sleeps; says whether he did. Its word was changed before.
    pub fn wake(&self, who: Sleeper) -> bool {
        let (word, asleep) = self.bed(who);
        self.sleepers.wake(who, word, asleep)
    }

    /// The word on which somebody sleeps, and the one that says whether he does.
    fn bed(&self, who: Sleeper) -> (&AtomicU32, &AtomicU32) {
        match who {
            Sleeper::Helper | Sleeper::Dispatcher => (&self.pool().bell, &self.pool().asleep),
            Sleeper::Worker(worker) => (&self.words(worker).wake, &self.words(worker).asleep),
        }
    }

    /// How many workers there is room for.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// What all workers share.
    pub fn pool(&self) -> &PoolWords {
        // SAFETY: the first page holds the words, which are atomic, and zero is a value of each.
        unsafe { self.mapping.base().cast().as_ref() }
    }

    /// Whether a SIGINT that came is meant for the item that the worker runs.
    pub fn is_interrupted(&self, worker: usize) -> bool {
        let words = self.words(worker);
        let (claimed, _) = halves(words.claim.load(Ordering::SeqCst));
        words.interrupt.load(Ordering::SeqCst) == u64::from(claimed) && claimed != 0
    }

    /// Whether the worker was told to leave and has nothing to do before that.
    pub fn is_superfluous(&self, worker: usize) -> bool {
        let words = self.words(worker);
        let quits = words.quit.load(Ordering::SeqCst) != 0;
        // Nothing is handed out after that, so the order of the two matters.
        let (claimed, handed) = halves(words.claim.load(Ordering::SeqCst));
        quits && claimed == handed
    }

    #[inline]
    fn words(&self, worker: usize) -> &WorkerWords {
        // SAFETY: as above, inside the mapping.
        unsafe { self.place(worker, 0).cast().as_ref() }
    }

    fn tasks(&self, worker: usize) -> Ring {
        // SAFETY: inside the mapping, page-aligned; this worker's channel alone touches it.
        unsafe { Ring::new(self.place(worker, PAGE), RING) }
    }

    fn results(&self, worker: usize) -> Ring {
        // SAFETY: as above.
        unsafe { Ring::new(self.place(worker, PAGE + RING), RING) }
    }

    #[inline]
    fn place(&self, worker: usize, offset: usize) -> NonNull<u8> {
        assert!(worker < self.workers);
        // SAFETY: below the mapping's length.
        unsafe { self.mapping.base().add(PAGE + worker * STRIDE + offset) }
    }

    /// Where the arena's granules begin: where a huge page does.
    const fn granules(workers: usize) -> usize {
        (PAGE + workers * STRIDE).next_multiple_of(HUGE_PAGE)
    }

    const fn bytes(workers: usize, arena: Layout) -> usize {
        if arena.granules == 0 {
            return PAGE + workers * STRIDE;
        }
        Self::granules(workers) + arena.bytes() + arena.index_bytes()
    }
}

/// The arenas of this process. Only threads that are inside Python touch it, so no child finds it taken.
static ARENAS: Mutex<Vec<(Weak<Memory>, Weak<Arena>)>> = Mutex::new(Vec::new());

fn arenas() -> MutexGuard<'static, Vec<(Weak<Memory>, Weak<Arena>)>> {
    ARENAS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process is about to fork: what its objects look at in arenas, the child shall see as it is now.
pub fn pin_arenas() {
    for (memory, arena) in &*arenas() {
        if let (Some(memory), Some(arena)) = (memory.upgrade(), arena.upgrade())
            && arena.is_ours()
        {
            arena.pin(|bytes, length| memory.keep_for_children(bytes, length));
        }
    }
}

/// The pool's end of one worker's channel.
#[derive(Debug)]
pub struct Lane {
    memory: Arc<Memory>,
    worker: usize,
    tasks: Ring,
    results: Ring,
    task_tail: u64,
    /// Items handed over since the channel was opened, and claimed, as far as we have looked.
    handed: u64,
    claimed: u64,
    reader: Reader,
}

impl Lane {
    /// Opens the channel of `worker`, for a worker that starts.
    pub fn new(memory: &Arc<Memory>, worker: usize) -> Self {
        let words = memory.words(worker);
        for word in [
            &words.claim,
            &words.result_tail,
            &words.task_head,
            &words.task_tail,
            &words.result_head,
            &words.interrupt,
        ] {
            word.store(0, Ordering::Relaxed);
        }
        for word in &words.spent {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&words.ready, &words.asleep, &words.wake, &words.refill, &words.quit] {
            word.store(0, Ordering::Relaxed);
        }
        Self {
            memory: Arc::clone(memory),
            worker,
            tasks: memory.tasks(worker),
            results: memory.results(worker),
            task_tail: 0,
            handed: 0,
            claimed: 0,
            reader: Reader::default(),
        }
    }

    fn words(&self) -> &WorkerWords {
        self.memory.words(self.worker)
    }

    /// Bytes of tasks and of results that went through the channel since it was opened.
    pub fn traffic(&self) -> [u64; 2] {
        [self.task_tail, self.reader.head]
    }

    /// Nanoseconds that the worker spent on reading arguments, in calls, on writing results.
    pub fn spent(&self) -> [u64; 3] {
        // Statistics: nothing else is read by what they say.
        self.words().spent.each_ref().map(|word| word.load(Ordering::Relaxed))
    }

    /// Whether it has finished its initializer.
    pub fn is_ready(&self) -> bool {
        self.words().ready.load(Ordering::Acquire) != 0
    }

    /// Where the next message will stand.
    pub fn tail(&self) -> u64 {
        self.task_tail
    }

    /// Writes the messages of `bytes`, of which each begins at one of `starts`, as many as there is room for in one
    /// piece; says how many, and where the first stands. They are the worker's only after [`Lane::hand`].
    pub fn write_run(&mut self, bytes: &[u8], starts: &[u32]) -> (usize, u64) {
        let head = self.head();
        let base = starts[0] as usize;
        let end = |count: usize| starts.get(count).map_or(bytes.len(), |&start| start as usize) - base;
        let room = self.tasks.room(self.task_tail, head);
        let mut count = if end(starts.len()) <= room {
            starts.len()
        } else {
            // The last start within the room ends the run.
            starts.partition_point(|&start| start as usize - base <= room).saturating_sub(1)
        };
        let mut at = self.task_tail;
        if count == 0 {
            let Some(place) = self.tasks.reserve(at, head, end(1)) else { return (0, at) };
            (count, at) = (1, place);
        }
        let length = end(count);
        self.tasks.put(at, &bytes[base..base + length]);
        self.task_tail = at + length as u64;
        (count, at)
    }

    /// Writes one message if there is room for it, and says where. The worker reads it before the next item.
    pub fn write_message(&mut self, header: Header, body: &[u8]) -> Option<u64> {
        let head = self.head();
        let at = self.tasks.reserve(self.task_tail, head, header.span())?;
        self.task_tail = self.tasks.put_message(at, header, body);
        Some(at)
    }

    /// Writes as much of a large message as there is room for; says whether all is written.
    pub fn write_stream(&mut self, stream: &mut Stream, body: &[u8]) -> bool {
        let head = self.head();
        let done = stream.push(&self.tasks, &mut self.task_tail, head, body);
        self.tell(&self.words().task_tail, self.task_tail);
        done
    }

    /// Up to where the worker has read.
    pub fn head(&self) -> u64 {
        self.words().task_head.load(Ordering::Acquire)
    }

    /// The ring of tasks, to look at what we wrote.
    pub fn tasks(&self) -> Ring {
        self.tasks
    }

    /// Items handed over since the channel was opened.
    pub fn handed(&self) -> u64 {
        self.handed
    }

    /// The largest body that is one message.
    pub fn body_max(&self) -> usize {
        self.tasks.body_max()
    }

    fn publish_bytes(&self) {
        publish(&self.words().task_tail, self.task_tail);
    }

    /// The next `count` items, which are written, are the worker's to claim. It shall ring when half of what is
    /// open then is claimed.
    pub fn hand(&mut self, count: u64) {
        self.publish_bytes();
        self.handed += count;
        let words = self.words();
        let mut seen = words.claim.load(Ordering::Relaxed);
        loop {
            let (claimed, _) = halves(seen);
            let open = (self.handed as u32).wrapping_sub(claimed);
            words.refill.store((self.handed as u32).wrapping_sub(open / 2), Ordering::Relaxed);
            let next = joined(claimed, self.handed as u32);
            match words.claim.compare_exchange_weak(seen, next, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.rouse();
    }

    /// Takes back all items that were not claimed; says how many. `back_to` gives the position of the first of them.
    pub fn recall(&mut self, back_to: impl FnOnce(u64) -> u64) -> u64 {
        let words = self.words();
        let mut seen = words.claim.load(Ordering::Acquire);
        loop {
            let (claimed, handed) = halves(seen);
            if claimed == handed {
                return 0;
            }
            match words.claim.compare_exchange_weak(
                seen,
                joined(claimed, claimed),
                Ordering::SeqCst,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    let count = u64::from(handed.wrapping_sub(claimed));
                    self.handed -= count;
                    self.task_tail = back_to(count);
                    self.publish_bytes();
                    return count;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// Items claimed since the channel was opened.
    pub fn claimed(&mut self) -> u64 {
        let (claimed, _) = halves(self.words().claim.load(Ordering::SeqCst));
        self.claimed += u64::from(claimed.wrapping_sub(self.claimed as u32));
        self.claimed
    }

    /// Results wait to be read.
    pub fn has_results(&self) -> bool {
        self.words().result_tail.load(Ordering::SeqCst) > self.reader.head
    }

    /// Reads one result, put together from its fragments.
    pub fn read_one(&mut self) -> Found<'_> {
        let tail = self.memory.words(self.worker).result_tail.load(Ordering::Acquire);
        self.reader.next(&self.results, tail)
    }

    /// Copies up to `most` whole results that lie in one piece behind `into`; says what they are. Stops at anything else.
    pub fn read_run(&mut self, most: u64, into: &mut Vec<u8>) -> ReadRun {
        let mut found = ReadRun::default();
        if self.reader.is_inside_message() {
            return found;
        }
        let tail = self.memory.words(self.worker).result_tail.load(Ordering::Acquire);
        let from = self.reader.head;
        let mut at = from;
        let end = tail.min(from + self.results.until_end(from) as u64);
        while found.count < most && at < end {
            if let Some((_, _, next)) = self.results.number(at) {
                at = next;
                found.count += 1;
                continue;
            }
            match self.results.message(at) {
                Some((header, _))
                    if !header.more && header.kind != Kind::Pad && header.kind != Kind::Broken =>
                {
                    at += header.span() as u64;
                    found.count += 1;
                    found.has_parcels |= header.kind == Kind::Parcel;
                    found.has_failures |= header.kind.is_failure();
                }
                _ => break,
            }
        }
        into.extend_from_slice(self.results.bytes(from, at));
        self.reader.head = at;
        found
    }

    /// What was read may be overwritten.
    pub fn release(&mut self) {
        self.tell(&self.words().result_head, self.reader.head);
    }

    /// The worker shall leave when it has nothing to do.
    pub fn quit(&self) {
        self.words().quit.store(1, Ordering::SeqCst);
        self.rouse();
    }

    /// A SIGINT that comes now is meant for the item that is claimed as number `claim` (from zero).
    pub fn interrupt(&self, claim: u64) {
        self.words().interrupt.store((claim & 0xffff_ffff) + 1, Ordering::SeqCst);
    }

    /// Publishes what the worker may sleep for. To publish is not enough: whether it sleeps might be read before the
    /// position is seen, and then it would sleep on.
    fn tell(&self, word: &AtomicU64, position: u64) {
        word.store(position, Ordering::SeqCst);
        self.rouse();
    }

    fn rouse(&self) {
        let words = self.words();
        if words.asleep.load(Ordering::SeqCst) != 0 {
            words.wake.fetch_add(1, Ordering::SeqCst);
            self.memory.wake(Sleeper::Worker(self.worker));
        }
    }
}

/// Results that were read together.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadRun {
    /// How many.
    pub count: u64,
    /// Whether some of them are parcels.
    pub has_parcels: bool,
    /// Whether some of them are failures.
    pub has_failures: bool,
}

/// The worker's end of its channel.
#[derive(Debug)]
pub struct Desk {
    memory: Arc<Memory>,
    worker: usize,
    tasks: Ring,
    results: Ring,
    reader: Reader,
    result_tail: u64,
    /// Results were read up to here when we looked last.
    seen_head: u64,
    rung: u64,
    patience: u32,
}

/// What a worker is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An item is claimed: read it.
    Item,
    /// Nothing is there.
    Nothing,
    /// Nothing is there, and nothing will be.
    Quit,
}

impl Desk {
    /// The end of `worker`.
    pub fn new(memory: Arc<Memory>, worker: usize) -> Self {
        let (tasks, results) = (memory.tasks(worker), memory.results(worker));
        Self {
            memory,
            worker,
            tasks,
            results,
            reader: Reader::default(),
            result_tail: 0,
            seen_head: 0,
            rung: 0,
            patience: PATIENCE_MAX,
        }
    }

    fn words(&self) -> &WorkerWords {
        self.memory.words(self.worker)
    }

    /// Adds to what [`Lane::spent`] tells.
    pub fn spend(&self, nanoseconds: [u64; 3]) {
        for (word, more) in self.words().spent.iter().zip(nanoseconds) {
            // The worker is the only writer.
            word.store(word.load(Ordering::Relaxed) + more, Ordering::Relaxed);
        }
    }

    /// The initializer has finished.
    pub fn ready(&self) {
        self.words().ready.store(1, Ordering::Release);
        self.ring();
    }

    /// Claims the next item if there is one. Rings when it runs dry, or comes to where the pool wants to know.
    #[inline]
    pub fn claim(&mut self) -> Next {
        let words = self.words();
        let mut seen = words.claim.load(Ordering::Acquire);
        loop {
            let (claimed, handed) = halves(seen);
            if claimed == handed {
                if self.rung != self.result_tail {
                    self.ring();
                    self.rung = self.result_tail;
                }
                return if self.words().quit.load(Ordering::SeqCst) != 0 {
                    Next::Quit
                } else {
                    Next::Nothing
                };
            }
            let next = joined(claimed.wrapping_add(1), handed);
            match words.claim.compare_exchange_weak(seen, next, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => {
                    if claimed == words.refill.load(Ordering::Relaxed) && self.rung != self.result_tail {
                        self.ring();
                        self.rung = self.result_tail;
                    }
                    return Next::Item;
                }
                Err(now) => seen = now,
            }
        }
    }

    /// The next message: a claimed item, or what comes before it. Nothing when its last fragments are not there yet.
    pub fn read(&mut self) -> Found<'_> {
        let tail = self.memory.words(self.worker).task_tail.load(Ordering::Acquire);
        self.reader.next(&self.tasks, tail)
    }

    /// The claimed item with what it calls, if it is a number: it is read.
    #[inline]
    pub fn read_number(&mut self) -> Option<(Number, u32)> {
        // What the pool takes back it writes anew, so the tail that we saw before says nothing.
        let tail = self.memory.words(self.worker).task_tail.load(Ordering::Acquire);
        let found = self.reader.next_number(&self.tasks, tail)?;
        publish(&self.words().task_head, self.reader.head);
        Some(found)
    }

    /// Writes a result that is a number, and publishes it; false when there is no room now.
    #[inline]
    pub fn write_number(&mut self, number: Number) -> bool {
        let words = self.memory.words(self.worker);
        let span = number.header(0).span();
        let at = self.results.reserve(self.result_tail, self.seen_head, span).or_else(|| {
            self.seen_head = words.result_head.load(Ordering::Acquire);
            self.results.reserve(self.result_tail, self.seen_head, span)
        });
        let Some(at) = at else { return false };
        self.result_tail = self.results.put_number(at, number);
        publish(&words.result_tail, self.result_tail);
        self.ring_if_half_full();
        true
    }

    /// Half full: the pool should read before there is no room.
    #[inline]
    fn ring_if_half_full(&mut self) {
        if self.result_tail - self.rung > RING as u64 / 2 {
            self.ring();
            self.rung = self.result_tail;
        }
    }

    /// What was read may be overwritten. The pool is told only when it pays.
    pub fn release(&mut self) {
        publish(&self.words().task_head, self.reader.head);
    }

    /// Makes room for the rest of a large task, whose fragments so far are copied out of the ring.
    pub fn ask_for_rest(&self) {
        publish(&self.words().task_head, self.reader.head);
        self.ring();
    }

    /// Writes a result that is one message, and publishes it; false when there is no room now.
    #[inline]
    pub fn write(&mut self, kind: Kind, body: &[u8]) -> bool {
        debug_assert!(body.len() <= self.results.body_max());
        let words = self.memory.words(self.worker);
        let head = words.result_head.load(Ordering::Acquire);
        let header = Header::new(kind, 0, body.len());
        let Some(at) = self.results.reserve(self.result_tail, head, header.span()) else { return false };
        self.result_tail = self.results.put_message(at, header, body);
        publish(&words.result_tail, self.result_tail);
        self.ring_if_half_full();
        true
    }

    /// Writes what there is room for of a large result; says whether all is written.
    pub fn write_stream(&mut self, stream: &mut Stream, body: &[u8]) -> bool {
        let words = self.memory.words(self.worker);
        let head = words.result_head.load(Ordering::Acquire);
        let done = stream.push(&self.results, &mut self.result_tail, head, body);
        publish(&words.result_tail, self.result_tail);
        self.ring();
        self.rung = self.result_tail;
        done
    }

    /// The largest body that is one message.
    pub fn body_max(&self) -> usize {
        self.results.body_max()
    }

    /// Rings, unless somebody of the pool looks by himself.
    pub fn ring(&self) {
        let pool = self.memory.pool();
        pool.bell.fetch_add(1, Ordering::SeqCst);
        if pool.awake.load(Ordering::SeqCst) == 0 && !self.memory.wake(Sleeper::Helper) {
            self.memory.wake(Sleeper::Dispatcher);
        }
    }

    /// Waits until `is_there` may have become true: spins a little, then sleeps. Says whether a signal came.
    pub fn wait(&mut self, is_there: impl Fn(&Self) -> bool) -> Waited {
        for _ in 0..self.patience {
            if is_there(self) {
                self.patience = (self.patience * 2).min(PATIENCE_MAX);
                return Waited::Woken;
            }
            std::hint::spin_loop();
        }
        self.patience = (self.patience / 2).max(PATIENCE_MIN);
        let words = self.words();
        let value = words.wake.load(Ordering::SeqCst);
        words.asleep.store(1, Ordering::SeqCst);
        let waited = if is_there(self) {
            Waited::Woken
        } else {
            self.memory.sleep(Sleeper::Worker(self.worker), value, Instant::NEVER)
        };
        words.asleep.store(0, Ordering::SeqCst);
        waited
    }

    /// Whether there is an item to claim, or it is time to leave.
    pub fn has_next(&self) -> bool {
        let (claimed, handed) = halves(self.words().claim.load(Ordering::SeqCst));
        claimed != handed || self.words().quit.load(Ordering::SeqCst) != 0
    }

    /// Whether more of the task is there than was read.
    pub fn has_more(&self) -> bool {
        self.words().task_tail.load(Ordering::SeqCst) > self.reader.head
    }

    /// Whether the pool has read something since we last looked at the room: `head` is what was known.
    pub fn has_room_since(&self, head: u64) -> bool {
        self.result_head() != head
    }

    /// Results are read up to here.
    pub fn result_head(&self) -> u64 {
        self.words().result_head.load(Ordering::SeqCst)
    }
}

/// Turns of a spin before a worker sleeps: some 10 µs at most. A spin that came to nothing makes the next one shorter.
const PATIENCE_MAX: u32 = 1000;
const PATIENCE_MIN: u32 = 32;

const fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

const fn joined(claimed: u32, handed: u32) -> u64 {
    (claimed as u64) << 32 | handed as u64
}
