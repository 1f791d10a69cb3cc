//! Our threads that run Python, held for a moment: a thread of the user that forks does so while none of them is inside
//! Python, where it could own a lock (a module's, a logger's) that the child would wait for in vain.
//!
//! The state is one word, so that a child of the fork finds nothing half done.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};

use super::system::{self, Waited};
use crate::time::Instant;

/// Somebody forks; below it: how many threads are inside.
const HELD: u32 = 1 << 31;
static WORD: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// How often this thread went inside without leaving.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// How often it holds the others; the child of a fork goes on counting.
    static HOLDS: Cell<u32> = const { Cell::new(0) };
}

/// A thread that is inside, until it is dropped.
#[derive(Debug)]
pub struct Inside(());

/// Goes inside; waits while somebody forks.
pub fn enter() -> Inside {
    let depth = DEPTH.get();
    DEPTH.set(depth + 1);
    // Who is inside already may go further: whoever wants to fork waits for it.
    if depth == 0 {
        enter_first();
    }
    Inside(())
}

fn enter_first() {
    loop {
        let seen = WORD.load(Ordering::SeqCst);
        if seen & HELD != 0 {
            system::wait_here(&WORD, seen, Instant::NEVER);
        } else if WORD.compare_exchange(seen, seen + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            return;
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        if depth == 0 && WORD.fetch_sub(1, Ordering::SeqCst) & HELD != 0 {
            system::wake_here(&WORD);
        }
    }
}

/// Keeps all others outside, once those that are inside have left; false when they have not by `deadline`, or when this
/// thread is inside itself. A thread may hold them several times over.
pub fn hold(deadline: Instant) -> bool {
    let held = HOLDS.get() > 0 || DEPTH.get() == 0 && hold_first(deadline);
    HOLDS.set(HOLDS.get() + u32::from(held));
    held
}

fn hold_first(deadline: Instant) -> bool {
    loop {
        let seen = WORD.load(Ordering::SeqCst);
        if seen & HELD != 0 {
            if system::wait_here(&WORD, seen, deadline) == Waited::TimedOut {
                return false;
            }
        } else if WORD.compare_exchange(seen, seen | HELD, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            break;
        }
    }
    loop {
        let seen = WORD.load(Ordering::SeqCst);
        if seen == HELD {
            return true;
        }
        if system::wait_here(&WORD, seen, deadline) == Waited::TimedOut {
            open();
            return false;
        }
    }
}

/// Ends what [`hold`] began, in the child of a fork too; nothing if it was in vain.
pub fn release() {
    let holds = HOLDS.get();
    HOLDS.set(holds.saturating_sub(1));
    if holds == 1 {
        open();
    }
}

/// In the child of a fork: this is the only thread, whoever else was inside.
pub fn renew() {
    system::wake_nobody_here();
    let held = if HOLDS.get() > 0 { HELD } else { 0 };
    WORD.store(held + DEPTH.get().min(1), Ordering::SeqCst);
}

fn open() {
    WORD.fetch_and(!HELD, Ordering::SeqCst);
    system::wake_here(&WORD);
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs somebody who waits at the gate")]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn gives_up() -> bool {
        thread::scope(|scope| scope.spawn(|| !hold(system::now() + Duration::from_millis(1))).join())
            .is_ok_and(|x| x)
    }

    #[test]
    fn nobody_is_inside_while_somebody_forks() {
        let forks = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let _inside = enter();
                        let _further = enter();
                        assert!(!forks.load(Ordering::SeqCst));
                    }
                });
            }
            for _ in 0..200 {
                assert!(hold(system::now() + Duration::from_secs(60)));
                forks.store(true, Ordering::SeqCst);
                thread::yield_now();
                forks.store(false, Ordering::SeqCst);
                release();
            }
        });
        // Who is inside cannot hold the others, and does not wait for itself.
        let inside = enter();
        assert!(!hold(Instant::NEVER));
        assert!(gives_up());
        drop(inside);
        assert!(hold(Instant::NEVER) && hold(Instant::NEVER));
        release();
        assert!(gives_up());
        release();
        release(); // one too many does nothing
        drop(enter());
    }
}
