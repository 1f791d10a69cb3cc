//! Answers on their way to an event loop.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;

use super::super::errors;
use super::{Finish, Finished, Ours, Outcome};
use crate::bindings::guard;
use crate::client::{Client, Failure};
use crate::store::{Answer, Command, Revision};

type Show = Box<dyn FnOnce(Python<'_>, Outcome) -> PyResult<Py<PyAny>> + Send>;

/// Answers for one event loop, which reads from a descriptor when there are some, and takes all of them at once.
#[pyclass(frozen, module = "coterie._coterie")]
pub(in super::super) struct ClientQueue {
    shared: Ours<Arc<Shared>>,
    futures: Mutex<Futures>,
}

struct Shared {
    finished: Mutex<Vec<(usize, Option<Finished>)>>,
    reads: OwnedFd,
    writes: OwnedFd,
}

/// Futures, by their places; a place is used again.
#[derive(Default)]
struct Futures {
    expected: Vec<Option<Expected>>,
    free: Vec<usize>,
}

struct Expected {
    future: Py<PyAny>,
    show: Show,
}

/// The way of one answer to the queue: if it is dropped unused, the queue hears of that, too.
struct Ticket {
    shared: Arc<Shared>,
    place: usize,
    used: bool,
}

impl Shared {
    fn push(&self, place: usize, finished: Option<Finished>) {
        let mut all = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        let first = all.is_empty();
        all.push((place, finished));
        drop(all);
        if first {
            let byte = 1u8;
            // A full pipe has woken whoever reads from it.
            // SAFETY: the descriptor is open as long as this is, and one byte is read from where one is.
            unsafe { libc::write(self.writes.as_raw_fd(), (&raw const byte).cast(), 1) };
        }
    }

    fn take(&self) -> Vec<(usize, Option<Finished>)> {
        let mut bytes = [0u8; 64];
        // SAFETY: the descriptor is open and does not block, and there is room for so many bytes.
        unsafe { libc::read(self.reads.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        std::mem::take(&mut *self.finished.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ticket {
    fn send(mut self, finished: Finished) {
        self.used = true;
        self.shared.push(self.place, Some(finished));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.used {
            self.shared.push(self.place, None);
        }
    }
}

impl ClientQueue {
    /// The continuation that resolves `future` with what `show` makes of the answer.
    pub(super) fn expect(&self, py: Python<'_>, future: Bound<'_, PyAny>, show: Show) -> PyResult<Finish> {
        let shared = Arc::clone(self.shared.get()?);
        let expected = Expected { future: future.unbind(), show };
        let place = guard::attached(py, &self.futures, |futures| futures.add(expected))?;
        let ticket = Ticket { shared, place, used: false };
        Ok(Box::new(move |finished| ticket.send(finished)))
    }
}

impl Futures {
    fn add(&mut self, expected: Expected) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.expected.push(None);
            self.expected.len() - 1
        });
        self.expected[place] = Some(expected);
        place
    }

    fn take(&mut self, place: usize) -> Option<Expected> {
        let expected = self.expected.get_mut(place)?.take()?;
        self.free.push(place);
        Some(expected)
    }
}

#[pymethods]
impl ClientQueue {
    #[new]
    fn new() -> PyResult<Self> {
        guard::shielded(|| {
            let (reads, writes) = pipe()?;
            let shared = Arc::new(Shared { finished: Mutex::default(), reads, writes });
            Ok(Self { shared: Ours::new(shared), futures: Mutex::default() })
        })
    }

    /// Can be read from when there is something to resolve.
    fn fileno(&self) -> PyResult<RawFd> {
        guard::shielded(|| Ok(self.shared.get()?.reads.as_raw_fd()))
    }

    /// Resolves the futures whose answers have come.
    fn resolve(&self, py: Python<'_>) -> PyResult<()> {
        guard::shielded(|| {
            for (place, finished) in self.shared.get()?.take() {
                let expected = guard::attached(py, &self.futures, |futures| futures.take(place))?;
                if let (Some(expected), Some(finished)) = (expected, finished) {
                    expected.resolve(py, finished)?;
                }
            }
            Ok(())
        })
    }
}

impl Expected {
    fn resolve(self, py: Python<'_>, finished: Finished) -> PyResult<()> {
        let future = self.future.bind(py);
        if future.call_method0(intern!(py, "done"))?.is_truthy()? {
            undelivered(finished);
            return Ok(());
        }
        let shown = match finished {
            Ok(outcome) => (self.show)(py, outcome),
            Err(failure) => Err(errors::failure(py, &failure)),
        };
        match shown {
            Ok(value) => future.call_method1(intern!(py, "set_result"), (value,))?,
            Err(error) => future.call_method1(intern!(py, "set_exception"), (error,))?,
        };
        Ok(())
    }
}

/// Nobody waits for it any more: what is held is given back when it is dropped, what was seen is seen again.
fn undelivered(finished: Finished) {
    if let Ok(Outcome::Batch(watcher, Some(batch))) = finished {
        watcher.put_back(batch);
    }
}

/// What has come of many commands.
struct Gathered {
    revisions: Vec<Revision>,
    failure: Option<(usize, Failure)>,
    left: usize,
    finish: Option<Finish>,
}

/// Executes all commands at once, and gathers their revisions; the first failure, in their order, counts for all.
pub(super) fn gather(client: &Client, commands: &[Command], patience: Duration, finish: Finish) {
    if commands.is_empty() {
        finish(Ok(Outcome::Many(Vec::new())));
        return;
    }
    let gathered = Arc::new(Mutex::new(Gathered {
        revisions: vec![0; commands.len()],
        failure: None,
        left: commands.len(),
        finish: Some(finish),
    }));
    for (place, command) in commands.iter().enumerate() {
        let gathered = Arc::clone(&gathered);
        client.command(command, patience, move |answer: Result<Answer, Failure>| {
            let mut all = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(answer) => all.revisions[place] = answer.revision,
                Err(failure) if all.failure.as_ref().is_none_or(|(first, _)| place < *first) => {
                    all.failure = Some((place, failure));
                }
                Err(_) => {}
            }
            all.left -= 1;
            if all.left > 0 {
                return;
            }
            let outcome = match all.failure.take() {
                Some((_, failure)) => Err(failure),
                None => Ok(Outcome::Many(std::mem::take(&mut all.revisions))),
            };
            let finish = all.finish.take();
            drop(all);
            if let Some(finish) = finish {
                finish(outcome);
            }
        });
    }
}

fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    for end in ends {
        // SAFETY: the descriptor has just been opened, and these calls change only how it behaves.
        unsafe {
            libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK);
            libc::fcntl(end, libc::F_SETFD, libc::FD_CLOEXEC);
        }
    }
    // SAFETY: both were just opened, and nobody else knows of them.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}
