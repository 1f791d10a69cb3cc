//! The loop of a worker: claim an item, decode it, call, write the result, claim the next.

use std::cell::Cell;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::super::guard;
use super::call;
use super::codec::{self, Arrival, Objects, Packed, Plain, Sender};
use super::stopwatch::Stopwatch;
use crate::pool::arena::{Arena, Keep, Party};
use crate::pool::channel::{Desk, Memory, Next};
use crate::pool::message::Kind;
use crate::pool::parcel::Mode;
use crate::pool::ring::{Found, Stream};
use crate::pool::system::{self, Waited};

/// How an item is passed: as the one argument, as all positional arguments, or as a pair of arguments and keywords.
#[derive(Clone, Copy)]
enum Style {
    One,
    Star,
    Call,
}

/// Or-ed to a definition's style: what follows is a parcel.
pub(super) const PARCEL: u8 = 0x80;

/// What a worker calls, as far as it has been told.
enum Function {
    Unknown,
    Told(Vec<u8>),
    Loaded(Style, Py<PyAny>),
    /// It cannot be loaded: each of its items fails with this.
    Broken(Py<PyAny>),
}

/// A worker's end of its channel. Use `coterie.Pool`.
#[pyclass(frozen, module = "coterie._coterie")]
pub(in super::super) struct PoolDesk {
    memory: Arc<Memory>,
    arena: Option<Arc<Arena>>,
    worker: usize,
    objects: Option<Arc<Objects>>,
    /// Taken out while it is used, so that a signal's handler finds nothing locked.
    desk: Mutex<Option<Desk>>,
}

impl PoolDesk {
    pub(super) fn new(memory: Arc<Memory>, worker: usize, objects: Option<Arc<Objects>>) -> Self {
        let desk = Mutex::new(Some(Desk::new(Arc::clone(&memory), worker)));
        let arena = memory.arena(Party::Worker(worker));
        Self { memory, arena, worker, objects, desk }
    }
}

#[pymethods]
impl PoolDesk {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "PyO3 hands over a list by value")]
    fn open(files: Vec<i32>, workers: usize, worker: usize) -> PyResult<Self> {
        guard::shielded(|| Ok(Self::new(Arc::new(Memory::open(&files, workers, worker)?), worker, None)))
    }

    /// Whether a SIGINT that came is meant for the item that runs.
    fn is_interrupted(&self) -> bool {
        self.memory.is_interrupted(self.worker)
    }

    /// Whether the worker has nothing to do and nothing will come.
    fn is_superfluous(&self) -> bool {
        self.memory.is_superfluous(self.worker)
    }

    /// Says that the worker cannot work, and why (a pickled exception).
    fn give_up(&self, py: Python<'_>, why: &[u8]) -> PyResult<()> {
        guard::shielded(|| {
            let mut desk = self.take(py)?;
            send(py, &mut desk, Kind::Broken, why)
        })
    }

    /// Works until the pool says that it is enough. `codec` has `loads`, `dumps`, `load_function`, `failure` and
    /// `encoding_failure`.
    fn run(&self, py: Python<'_>, codec: &Bound<'_, PyAny>) -> PyResult<()> {
        guard::shielded(|| {
            let mut desk = self.take(py)?;
            desk.ready();
            let worker = Worker {
                py,
                objects: self.objects.as_deref(),
                codec: codec.clone(),
                loads: codec.getattr("loads")?,
                sender: Sender {
                    dumps: codec.getattr("dumps")?,
                    arena: self.arena.as_ref(),
                    mode: Mode::Owned,
                    is_crowded: Cell::new(false),
                },
                functions: Vec::new(),
                watch: Stopwatch::new(),
            };
            worker.run(&mut desk)
        })
    }
}

impl PoolDesk {
    fn take(&self, py: Python<'_>) -> PyResult<Desk> {
        guard::attached(py, &self.desk, Option::take)?
            .ok_or_else(|| PyValueError::new_err("this desk is in use"))
    }
}

/// Ends this process when the other end of `file` is closed, with its process group if that is the pool's own.
#[pyfunction]
pub(in super::super) fn pool_follow(file: i32, group: bool) -> PyResult<()> {
    guard::shielded(|| {
        std::thread::Builder::new().name("coterie-follow".into()).spawn(move || {
            system::block_signals();
            system::follow_to_the_grave(file, group);
        })?;
        Ok(())
    })
}

struct Worker<'a, 'py> {
    py: Python<'py>,
    objects: Option<&'a Objects>,
    codec: Bound<'py, PyAny>,
    loads: Bound<'py, PyAny>,
    sender: Sender<'a, 'py>,
    functions: Vec<Function>,
    watch: Stopwatch,
}

impl<'py> Worker<'_, 'py> {
    fn run(mut self, desk: &mut Desk) -> PyResult<()> {
        loop {
            match desk.claim() {
                Next::Item => {
                    self.watch.begin();
                    let (function, item) = match desk.read_number() {
                        Some((number, function)) => (function, codec::from_number(self.py, number)),
                        None => self.read(desk)?,
                    };
                    self.watch.lap();
                    let result = item.and_then(|item| self.call(function, &item));
                    self.watch.lap();
                    self.answer(desk, result)?;
                    self.watch.end(|spent| desk.spend(spent));
                }
                Next::Nothing => {
                    self.watch.pause(|spent| desk.spend(spent));
                    wait(self.py, desk, Desk::has_next)?;
                    self.watch.go_on();
                }
                Next::Quit => return Ok(()),
            }
        }
    }

    /// The claimed item, and what it calls; functions that come before it are kept.
    fn read(&mut self, desk: &mut Desk) -> PyResult<(u32, PyResult<Bound<'py, PyAny>>)> {
        loop {
            match desk.read() {
                Found::Message(header, body) if header.kind == Kind::Function => {
                    let place = header.function as usize;
                    if self.functions.len() <= place {
                        self.functions.resize_with(place + 1, || Function::Unknown);
                    }
                    self.functions[place] = Function::Told(body.to_vec());
                }
                Found::Message(header, body) => {
                    let mut arrival = self.sender.arena.map_or(Arrival::Nothing, Arrival::Pool);
                    let (loads, objects) = (Some(&self.loads), self.objects);
                    let item = codec::decode(self.py, header.kind, body, loads, objects, &mut arrival);
                    desk.release();
                    return Ok((header.function, item));
                }
                Found::Nothing => {
                    desk.ask_for_rest();
                    wait(self.py, desk, Desk::has_more)?;
                    continue;
                }
                Found::Nonsense => return Err(super::super::errors::internal("a task is not a message")),
            }
            desk.release();
        }
    }

    fn call(&mut self, place: u32, item: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.load(place)?;
        match &self.functions[place as usize] {
            Function::Loaded(Style::One, function) => {
                // SAFETY: both are alive and attached.
                unsafe {
                    let result = call::with_one(function.as_ptr(), item.as_ptr());
                    Bound::from_owned_ptr_or_err(self.py, result)
                }
            }
            Function::Loaded(Style::Star, function) => {
                let arguments = match item.cast::<PyTuple>() {
                    Ok(tuple) => tuple.clone(),
                    Err(_) => PyTuple::new(self.py, item.try_iter()?.collect::<PyResult<Vec<_>>>()?)?,
                };
                function.bind(self.py).call1(arguments)
            }
            Function::Loaded(Style::Call, function) => {
                let (arguments, keywords): (Bound<'py, PyTuple>, Bound<'py, PyDict>) = item.extract()?;
                function.bind(self.py).call(arguments, Some(&keywords))
            }
            Function::Broken(error) => Err(PyErr::from_value(error.bind(self.py).clone())),
            Function::Unknown | Function::Told(_) => {
                Err(super::super::errors::internal("a function was not told"))
            }
        }
    }

    fn load(&mut self, place: u32) -> PyResult<()> {
        let Some(entry) = self.functions.get_mut(place as usize) else {
            return Err(super::super::errors::internal("a function was not told"));
        };
        let Function::Told(definition) = entry else { return Ok(()) };
        let first = definition.first().copied().unwrap_or_default();
        let style = match first & !PARCEL {
            0 => Style::One,
            1 => Style::Star,
            _ => Style::Call,
        };
        let body = definition.get(1..).unwrap_or_default();
        let loaded = match self.objects {
            Some(objects) => objects
                .look(self.py, u64::from_le_bytes(body.first_chunk::<8>().copied().unwrap_or_default())),
            None if first & PARCEL != 0 => {
                let mut arrival = self.sender.arena.map_or(Arrival::Nothing, Arrival::Pool);
                codec::unpack(self.py, body, &self.loads, &mut arrival)
            }
            None => self.codec.call_method1("load_function", (PyBytes::new(self.py, body),)),
        };
        *entry = match loaded {
            Ok(function) => Function::Loaded(style, function.unbind()),
            Err(error) => Function::Broken(error.value(self.py).clone().into_any().unbind()),
        };
        Ok(())
    }

    fn answer(&self, desk: &mut Desk, result: PyResult<Bound<'py, PyAny>>) -> PyResult<()> {
        let result = match result {
            Ok(result) => result,
            Err(error) => return self.answer_failure(desk, &error),
        };
        if let Some(objects) = self.objects {
            return send(self.py, desk, Kind::Object, &objects.put(&result)?.to_le_bytes());
        }
        if codec::number(&result).is_some_and(|number| desk.write_number(number)) {
            return Ok(());
        }
        if let Some(plain) = codec::plain(&result).filter(Plain::is_short) {
            return self.answer_plain(desk, &plain);
        }
        let sent = self.sender.pack(&result, |packed| match packed {
            Packed::Small(kind, body) => send(self.py, desk, kind, body),
            Packed::Parcel(body, kept) => {
                send(self.py, desk, Kind::Parcel, &body)?;
                kept.into_iter().for_each(Keep::send);
                Ok(())
            }
        });
        match sent {
            Ok(sent) => sent,
            Err(error) => {
                let why = self.codec.call_method1("encoding_failure", (error.value(self.py), result))?;
                send(self.py, desk, Kind::Error, why.cast::<PyBytes>()?.as_bytes())
            }
        }
    }

    #[inline]
    fn answer_plain(&self, desk: &mut Desk, plain: &Plain<'_>) -> PyResult<()> {
        let mut scratch = [0; 8];
        let (kind, body) = plain.parts(&mut scratch);
        if body.len() <= 8 && desk.write(kind, body) {
            return Ok(());
        }
        send(self.py, desk, kind, body)
    }

    fn answer_failure(&self, desk: &mut Desk, error: &PyErr) -> PyResult<()> {
        let value = error.value(self.py);
        if let Some(objects) = self.objects {
            // Without its context the traceback is lost when the error is raised again elsewhere.
            value.setattr("__traceback__", error.traceback(self.py))?;
            return send(self.py, desk, Kind::ObjectError, &objects.put(value)?.to_le_bytes());
        }
        value.setattr("__traceback__", error.traceback(self.py))?;
        let told = self.codec.call_method1("failure", (value,))?;
        send(self.py, desk, Kind::Error, told.cast::<PyBytes>()?.as_bytes())
    }
}

/// Sends a result however large it is, and waits for room if it must.
fn send(py: Python<'_>, desk: &mut Desk, kind: Kind, body: &[u8]) -> PyResult<()> {
    if body.len() <= desk.body_max() {
        loop {
            let head = desk.result_head();
            if desk.write(kind, body) {
                return Ok(());
            }
            desk.ring();
            wait(py, desk, move |desk| desk.has_room_since(head))?;
        }
    }
    let mut stream = Stream::new(kind, 0, body.len());
    loop {
        let head = desk.result_head();
        if desk.write_stream(&mut stream, body) {
            return Ok(());
        }
        wait(py, desk, move |desk| desk.has_room_since(head))?;
    }
}

/// Waits, detached; a signal's handler is run.
fn wait(py: Python<'_>, desk: &mut Desk, is_there: impl Fn(&Desk) -> bool + Send) -> PyResult<()> {
    if py.detach(|| desk.wait(is_there)) == Waited::Interrupted {
        py.check_signals()?;
    }
    Ok(())
}
