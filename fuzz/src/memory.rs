//! How much memory something takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, which counts for each thread.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static TAKEN: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// How many bytes may be taken for one that is read: a value of one byte on the wire is an enumeration of some forty in
/// memory, and a vector that grows is there twice.
const PROPORTION: usize = 256;
/// What may be taken whatever is read.
const ALLOWANCE: usize = 64 << 10;

/// Does it, which must not take much more memory than the `bytes` that it reads.
pub fn bounded<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let before = TAKEN.get();
    MOST.set(before);
    let outcome = work();
    let most = (MOST.get() - before).unsigned_abs();
    let bound = bytes * PROPORTION + ALLOWANCE;
    assert!(most <= bound, "{bytes} bytes were read, and {most} were taken for it");
    outcome
}

fn count(by: isize) {
    // Not while the thread ends.
    let _ = TAKEN.try_with(|taken| {
        taken.set(taken.get() + by);
        let _ = MOST.try_with(|most| most.set(most.get().max(taken.get())));
    });
}

// SAFETY: all is done by the system's allocator; counting allocates nothing, because the counters have no destructor
// and their first value is a constant.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps what `GlobalAlloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
