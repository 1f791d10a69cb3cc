//! Where locks are taken, and where panics end.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, TryLockError};

use pyo3::PyTraverseError;
use pyo3::prelude::*;

use super::errors;

/// Runs a short `body` under `lock` while attached, so that it may take and give references to Python objects; it
/// must run no Python code and drop no object. A free lock is taken as it is, which costs nanoseconds; a taken one
/// means to let others run, detached, and to try again.
///
/// A thread that holds the interpreter and waits for a lock, while the lock's owner waits for the interpreter (to
/// log, to drop an object), hangs both: so nobody ever waits for a lock while attached. And nobody holds one while
/// detached, not even to wait for it: CPython forks with the GIL, or without one after it has stopped all attached
/// threads, so no child finds a lock taken.
#[inline]
pub(super) fn attached<T: Send, R>(
    py: Python<'_>,
    lock: &Mutex<T>,
    body: impl FnOnce(&mut T) -> R,
) -> PyResult<R> {
    loop {
        match lock.try_lock() {
            Ok(mut held) => return Ok(body(&mut held)),
            Err(TryLockError::WouldBlock) => py.detach(std::thread::yield_now),
            Err(TryLockError::Poisoned(_)) => return Err(poisoned()),
        }
    }
}

/// Shows the garbage collector what is under `lock`, which it may find taken: then it looks again another time.
pub(super) fn collecting<T>(
    lock: &Mutex<T>,
    body: impl FnOnce(&T) -> Result<(), PyTraverseError>,
) -> Result<(), PyTraverseError> {
    lock.try_lock().map_or(Ok(()), |held| body(&held))
}

/// Runs `body`; a panic in it becomes `InternalError` and not `PanicException`, which `except Exception` misses.
#[inline]
pub(super) fn shielded<T>(body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    // What a panic left half done stays behind a poisoned lock, so nothing broken can be seen afterwards.
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(errors::internal(&message(&*payload))))
}

fn message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

fn poisoned() -> PyErr {
    errors::internal("an earlier call panicked and left this object unfinished")
}
