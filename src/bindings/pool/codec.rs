//! Python objects as messages. What is exactly an int of 64 bits, a float, a str, bytes or None goes by its value;
//! all else, subclasses and `True` among it, goes through pickle, so that it comes back as what it was. What is large lies
//! in the arena: the bodies of messages, and the buffers that pickle leaves out of them.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::c_int;
use std::mem;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyMemoryView, PyString, PyTuple};

use super::super::{errors, guard};
use crate::pool::arena::Place;
use crate::pool::arena::{Arena, Keep, Looked, Party, Shared, Slot, THRESHOLD, View};
use crate::pool::driver::Offer;
use crate::pool::message::{Kind, Number, append};
use crate::pool::parcel::{self, Mode, Outline, Parcel, Part};

/// Objects on their way between threads of this process, by handle.
#[derive(Default)]
pub(super) struct Objects(Mutex<Shelf>);

#[derive(Default)]
struct Shelf {
    places: Vec<Option<Py<PyAny>>>,
    free: Vec<u64>,
}

impl Objects {
    pub(super) fn put(&self, object: &Bound<'_, PyAny>) -> PyResult<u64> {
        let owned = object.clone().unbind();
        guard::attached(object.py(), &self.0, |shelf| {
            if let Some(handle) = shelf.free.pop() {
                shelf.places[handle as usize] = Some(owned);
                return handle;
            }
            shelf.places.push(Some(owned));
            shelf.places.len() as u64 - 1
        })
    }

    pub(super) fn take<'py>(&self, py: Python<'py>, handle: u64) -> PyResult<Bound<'py, PyAny>> {
        let taken = guard::attached(py, &self.0, |shelf| {
            let taken = shelf.places.get_mut(handle as usize).and_then(Option::take);
            if taken.is_some() {
                shelf.free.push(handle);
            }
            taken
        })?;
        taken.map(|object| object.into_bound(py)).ok_or_else(|| errors::internal("an object was lost"))
    }

    /// What stays on the shelf, for functions, which are called more than once.
    pub(super) fn look<'py>(&self, py: Python<'py>, handle: u64) -> PyResult<Bound<'py, PyAny>> {
        let found = guard::attached(py, &self.0, |shelf| {
            shelf
                .places
                .get(handle as usize)
                .and_then(|object| object.as_ref().map(|object| object.clone_ref(py)))
        })?;
        found.map(|object| object.into_bound(py)).ok_or_else(|| errors::internal("a function was lost"))
    }
}

/// What an object is when it goes by its value.
pub(super) enum Plain<'a> {
    None,
    Int(i64),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
}

impl Plain<'_> {
    /// Whether it is too short for the arena.
    pub(super) fn is_short(&self) -> bool {
        !matches!(self, Self::Str(value) if value.len() >= THRESHOLD)
            && !matches!(self, Self::Bytes(value) if value.len() >= THRESHOLD)
    }

    /// As a message's kind and body; the scratch holds what a number's body is.
    pub(super) fn parts<'s>(&'s self, scratch: &'s mut [u8; 8]) -> (Kind, &'s [u8]) {
        match self {
            Self::None => (Kind::None, &[]),
            Self::Int(value) => {
                *scratch = value.to_le_bytes();
                (Kind::Int, scratch)
            }
            Self::Float(value) => {
                *scratch = value.to_bits().to_le_bytes();
                (Kind::Float, scratch)
            }
            Self::Str(value) => (Kind::Str, value.as_bytes()),
            Self::Bytes(value) => (Kind::Bytes, value),
        }
    }
}

/// The object by its value, if it can go so.
#[inline]
pub(super) fn plain<'a>(object: &'a Bound<'_, PyAny>) -> Option<Plain<'a>> {
    if object.is_exact_instance_of::<PyInt>() {
        // The stable interpreter interface has a call that tells what does not fit without an exception.
        let mut overflow = 0;
        // SAFETY: the object is an int, alive and attached.
        let value = unsafe { pyo3::ffi::PyLong_AsLongLongAndOverflow(object.as_ptr(), &raw mut overflow) };
        return (overflow == 0).then_some(Plain::Int(value));
    }
    if object.is_exact_instance_of::<PyFloat>() {
        return object.extract().ok().map(Plain::Float);
    }
    if object.is_none() {
        return Some(Plain::None);
    }
    if object.is_exact_instance_of::<PyString>() {
        // Text with lone surrogates is no UTF-8; pickle knows what to do with it.
        return object.cast::<PyString>().ok()?.to_str().ok().map(Plain::Str);
    }
    if object.is_exact_instance_of::<PyBytes>() {
        return object.cast::<PyBytes>().ok().map(|bytes| Plain::Bytes(bytes.as_bytes()));
    }
    None
}

/// The object as a number, if it is exactly one, or None.
#[inline]
pub(super) fn number(object: &Bound<'_, PyAny>) -> Option<Number> {
    if object.is_exact_instance_of::<PyInt>() {
        let mut overflow = 0;
        // SAFETY: as in `plain`.
        let value = unsafe { ffi::PyLong_AsLongLongAndOverflow(object.as_ptr(), &raw mut overflow) };
        return (overflow == 0).then_some(Number { kind: Kind::Int, bits: value as u64 });
    }
    if object.is_exact_instance_of::<PyFloat>() {
        // SAFETY: it is a float, alive and attached.
        let value = unsafe { ffi::PyFloat_AsDouble(object.as_ptr()) };
        return Some(Number { kind: Kind::Float, bits: value.to_bits() });
    }
    object.is_none().then_some(Number { kind: Kind::None, bits: 0 })
}

/// The number as an object.
#[inline]
pub(super) fn from_number(py: Python<'_>, number: Number) -> PyResult<Bound<'_, PyAny>> {
    Ok(match number.kind {
        Kind::Int => (number.bits as i64).into_pyobject(py)?.into_any(),
        Kind::Float => PyFloat::new(py, f64::from_bits(number.bits)).into_any(),
        _ => py.None().into_bound(py),
    })
}

/// Bytes that an object lends.
pub(super) struct Lent(PyBuffer<u8>);

impl Lent {
    fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::new(PyBuffer::get(object)?)
    }

    pub(super) fn new(buffer: PyBuffer<u8>) -> PyResult<Self> {
        if !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("bytes in pieces"));
        }
        Ok(Self(buffer))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        if self.0.len_bytes() == 0 {
            return &[];
        }
        // SAFETY: contiguous bytes of an object that we hold. Who writes to an argument while it is sent sends a mixture.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast::<u8>(), self.0.len_bytes()) }
    }
}

/// How objects leave this process.
pub(super) struct Sender<'a, 'py> {
    pub(super) dumps: Bound<'py, PyAny>,
    pub(super) arena: Option<&'a Arc<Arena>>,
    /// Whether the reader takes over what lies in the arena, or copies it.
    pub(super) mode: Mode,
    /// Something found no room in the arena.
    pub(super) is_crowded: Cell<bool>,
}

/// What an object became.
pub(super) enum Packed<'a> {
    /// A kind, and a body.
    Small(Kind, &'a [u8]),
    /// The body of a parcel, and what it has in the arena.
    Parcel(Vec<u8>, Vec<Keep>),
}

impl<'py> Sender<'_, 'py> {
    /// Makes a message of the object.
    #[inline]
    pub(super) fn pack<R>(
        &self,
        object: &Bound<'py, PyAny>,
        send: impl FnOnce(Packed<'_>) -> R,
    ) -> PyResult<R> {
        let Some(plain) = plain(object) else { return self.pickle(object, send) };
        let mut scratch = [0; 8];
        let (kind, body) = plain.parts(&mut scratch);
        if body.len() >= THRESHOLD
            && let Some(slot) = self.place(object.py(), body)
        {
            let (bytes, kept) = self.outline(object.py(), kind, body, Some(slot), &[]);
            return Ok(send(Packed::Parcel(bytes, kept)));
        }
        Ok(send(Packed::Small(kind, body)))
    }

    fn pickle<R>(&self, object: &Bound<'py, PyAny>, send: impl FnOnce(Packed<'_>) -> R) -> PyResult<R> {
        let py = object.py();
        let made = self.dumps.call1((object,))?;
        if let Ok(bytes) = made.cast::<PyBytes>() {
            return Ok(send(self.body(py, bytes.as_bytes(), &[])));
        }
        let Ok(pair) = made.cast::<PyTuple>() else {
            let body = Lent::of(&made)?;
            return Ok(send(self.body(py, body.bytes(), &[])));
        };
        let body = Lent::of(&pair.get_item(0)?)?;
        let buffers = pair.get_item(1)?.try_iter()?.map(|buffer| Lent::of(&buffer?));
        let buffers = buffers.collect::<PyResult<Vec<Lent>>>()?;
        Ok(send(self.body(py, body.bytes(), &buffers)))
    }

    fn body<'b>(&self, py: Python<'_>, body: &'b [u8], buffers: &[Lent]) -> Packed<'b> {
        let slot = if body.len() >= THRESHOLD { self.place(py, body) } else { None };
        if slot.is_none() && buffers.is_empty() {
            return Packed::Small(Kind::Pickle, body);
        }
        let (bytes, kept) = self.outline(py, Kind::Pickle, body, slot, buffers);
        Packed::Parcel(bytes, kept)
    }

    /// A parcel: the body, which lies in `slot` if there is one, and buffers, which are placed if there is room.
    pub(super) fn outline(
        &self,
        py: Python<'_>,
        kind: Kind,
        body: &[u8],
        slot: Option<Slot>,
        buffers: &[Lent],
    ) -> (Vec<u8>, Vec<Keep>) {
        let mut parts = Vec::with_capacity(buffers.len() + 1);
        let (mut kept, mut here) = (Vec::new(), Vec::new());
        let is_placed = slot.is_some();
        if let Some(slot) = slot {
            parts.push((self.mode, slot.place(body.len())));
            kept.push(Keep::Own(slot));
        }
        for buffer in buffers {
            let bytes = buffer.bytes();
            let shared = self.arena.and_then(|arena| arena.find_shared(bytes.as_ptr(), bytes.len()));
            if let Some((shared, place)) = shared {
                parts.push((Mode::Shared, place));
                kept.push(Keep::Shared(shared));
            } else if let Some(slot) = self.place(py, bytes) {
                parts.push((self.mode, slot.place(bytes.len())));
                kept.push(Keep::Own(slot));
            } else {
                parts.push((Mode::Here, Place { head: 0, generation: 0, offset: 0, length: bytes.len() }));
                here.push(bytes);
            }
        }
        let mut bytes = Vec::new();
        let outline = Outline { kind, body: (!is_placed).then_some(body), parts: &parts };
        outline.append(&mut bytes);
        for part in here {
            parcel::append_part(&mut bytes, part);
        }
        (bytes, kept)
    }

    fn place(&self, py: Python<'_>, bytes: &[u8]) -> Option<Slot> {
        let slot = place(py, self.arena?, bytes);
        if slot.is_none() {
            self.is_crowded.set(true);
        }
        slot
    }
}

/// Copies bytes into the arena, if there is room.
pub(super) fn place(py: Python<'_>, arena: &Arc<Arena>, bytes: &[u8]) -> Option<Slot> {
    let slot = arena.claim(bytes.len())?;
    if bytes.len() < DETACHED {
        slot.fill(bytes);
    } else {
        py.detach(|| slot.fill(bytes));
    }
    Some(slot)
}

/// From this size on others may use the interpreter while bytes are copied.
const DETACHED: usize = 1 << 18;

/// Whence what arrives in the arena comes.
pub(super) enum Arrival<'a> {
    /// Nothing does: all objects are of this process.
    Nothing,
    /// From the pool.
    Pool(&'a Arc<Arena>),
    /// From a worker: it was taken over already.
    Worker(&'a mut VecDeque<Slot>),
}

impl Arrival<'_> {
    /// The part as an object that lends its bytes.
    fn object<'py>(&mut self, py: Python<'py>, part: &Part<'_>) -> PyResult<Bound<'py, PyAny>> {
        let gone = || errors::internal("what an item has in the arena is not there");
        let place = match part {
            Part::Here(bytes) => return Ok(PyByteArray::new(py, bytes).into_any()),
            Part::Placed(_, place) => *place,
        };
        let held = match (part, self) {
            (Part::Placed(Mode::Owned, _), Self::Worker(slots)) => {
                Held::Own(slots.pop_front().ok_or_else(gone)?.look())
            }
            (Part::Placed(Mode::Owned, _), Self::Pool(arena)) => {
                Held::Own(arena.adopt(&place, Party::Pool).ok_or_else(gone)?.look())
            }
            (Part::Placed(Mode::Shared, _), Self::Pool(arena)) => {
                Held::View(arena.view_shared(&place).ok_or_else(gone)?)
            }
            (Part::Placed(Mode::Kept, _), Self::Pool(arena)) => {
                let copied = PyByteArray::new_with(py, place.length, |into| {
                    if arena.copy(&place, into) { Ok(()) } else { Err(gone()) }
                });
                return copied.map(Bound::into_any);
            }
            _ => return Err(gone()),
        };
        let buffer = Bound::new(py, PoolBuffer { held, offset: place.offset, length: place.length })?;
        // What the object's class does to bytes, it may do to a view.
        Ok(PyMemoryView::from(&buffer)?.into_any())
    }
}

enum Held {
    Own(Looked),
    View(View),
    Shared(Arc<Shared>),
}

/// Bytes in a pool's arena, for as long as somebody looks at them. What is shared is read-only.
#[pyclass(frozen, module = "coterie._coterie")]
pub(super) struct PoolBuffer {
    held: Held,
    offset: usize,
    length: usize,
}

impl PoolBuffer {
    /// What is shared, as its pool sees it.
    pub(super) fn shared(
        py: Python<'_>,
        shared: Arc<Shared>,
        length: usize,
    ) -> PyResult<Bound<'_, PyMemoryView>> {
        let buffer = Bound::new(py, Self { held: Held::Shared(shared), offset: 0, length })?;
        PyMemoryView::from(&buffer)
    }

    fn start(&self) -> NonNull<u8> {
        let base = match &self.held {
            Held::Own(looked) => looked.base(),
            Held::View(view) => view.base(),
            Held::Shared(shared) => shared.base(),
        };
        // SAFETY: inside the extent, as was checked when it was taken over.
        unsafe { base.add(self.offset) }
    }
}

#[pymethods]
impl PoolBuffer {
    /// # Safety
    /// Python calls it with a view to fill in.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let read_only = c_int::from(!matches!(this.held, Held::Own(_)));
        let (start, length) = (this.start().as_ptr().cast(), this.length as ffi::Py_ssize_t);
        // SAFETY: the view keeps this object, which keeps the bytes where they are.
        let result = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, read_only, flags) };
        if result == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}

/// The object that a message holds.
#[inline]
pub(super) fn decode<'py>(
    py: Python<'py>,
    kind: Kind,
    body: &[u8],
    loads: Option<&Bound<'py, PyAny>>,
    objects: Option<&Objects>,
    arrival: &mut Arrival<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let word = || body.first_chunk::<8>().copied().unwrap_or_default();
    Ok(match (kind, loads, objects) {
        (Kind::None, ..) => py.None().into_bound(py),
        (Kind::Int, ..) => i64::from_le_bytes(word()).into_pyobject(py)?.into_any(),
        (Kind::Float, ..) => PyFloat::new(py, f64::from_bits(u64::from_le_bytes(word()))).into_any(),
        (Kind::Str, ..) => PyString::from_bytes(py, body)?.into_any(),
        (Kind::Bytes, ..) => PyBytes::new(py, body).into_any(),
        (Kind::Pickle, Some(loads), _) => loads.call1((PyBytes::new(py, body),))?,
        (Kind::Parcel, Some(loads), _) => unpack(py, body, loads, arrival)?,
        (Kind::Object, _, Some(objects)) => objects.take(py, u64::from_le_bytes(word()))?,
        _ => return Err(errors::internal("a message of another kind")),
    })
}

/// The object that a parcel holds.
pub(super) fn unpack<'py>(
    py: Python<'py>,
    message: &[u8],
    loads: &Bound<'py, PyAny>,
    arrival: &mut Arrival<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let parcel = Parcel::read(message).ok_or_else(|| errors::internal("a parcel that is none"))?;
    // All of them before anything can fail: what follows comes in its order.
    let body = arrival.object(py, &parcel.body);
    let buffers: Vec<_> = parcel.buffers.iter().map(|part| arrival.object(py, part)).collect();
    let (body, buffers) = (body?, buffers.into_iter().collect::<PyResult<Vec<_>>>()?);
    if parcel.kind == Kind::Pickle {
        if buffers.is_empty() {
            return loads.call1((body,));
        }
        let keywords = PyDict::new(py);
        keywords.set_item("buffers", buffers)?;
        return loads.call((body,), Some(&keywords));
    }
    let lent = Lent::of(&body)?;
    decode(py, parcel.kind, lent.bytes(), None, None, &mut Arrival::Nothing)
}

/// Items of one function, encoded side by side.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) starts: Vec<u32>,
    /// What items have in the arena, by their place.
    kept: Vec<(u32, Vec<Keep>)>,
    body_max: usize,
    /// How many bytes and items the last batch had.
    expected: (usize, usize),
}

impl Encoded {
    pub(super) fn new(body_max: usize) -> Self {
        Self { bytes: Vec::new(), starts: Vec::new(), kept: Vec::new(), body_max, expected: (0, 0) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Appends one item; says whether the batch should end with it, because it is large.
    #[inline]
    pub(super) fn push<'py>(
        &mut self,
        function: u32,
        item: &Bound<'py, PyAny>,
        sender: &Sender<'_, 'py>,
    ) -> PyResult<bool> {
        let (start, place) = (self.bytes.len(), self.starts.len() as u32);
        let (bytes, all_kept) = (&mut self.bytes, &mut self.kept);
        let is_large = sender.pack(item, |packed| match packed {
            Packed::Small(kind, body) => {
                append(bytes, kind, function, body);
                false
            }
            Packed::Parcel(body, kept) => {
                append(bytes, Kind::Parcel, function, &body);
                all_kept.push((place, kept));
                true
            }
        })?;
        self.starts.push(start as u32);
        Ok(is_large || self.bytes.len() - start > self.body_max)
    }

    /// The same for a number.
    #[inline]
    pub(super) fn push_number(&mut self, function: u32, number: Number) {
        if self.starts.is_empty() {
            self.bytes.reserve(self.expected.0);
            self.starts.reserve(self.expected.1);
        }
        self.starts.push(self.bytes.len() as u32);
        number.append(&mut self.bytes, function);
    }

    pub(super) fn push_object(
        &mut self,
        function: u32,
        item: &Bound<'_, PyAny>,
        objects: &Objects,
    ) -> PyResult<bool> {
        self.starts.push(self.bytes.len() as u32);
        append(&mut self.bytes, Kind::Object, function, &objects.put(item)?.to_le_bytes());
        Ok(false)
    }

    /// What is there, which is gone then: all but the last, and the last by itself when it is too large to share a batch.
    /// What it has in the arena goes with it.
    pub(super) fn parts(&mut self) -> Vec<Offer> {
        self.expected = (self.bytes.len(), self.starts.len());
        let mut bytes = mem::take(&mut self.bytes);
        let (mut starts, mut kept) = (mem::take(&mut self.starts), mem::take(&mut self.kept));
        let last = starts.last().map_or(0, |&start| start as usize);
        let is_large = bytes.len() - last > self.body_max;
        if !is_large || starts.len() == 1 {
            return vec![Offer { bytes, starts, kept }];
        }
        starts.pop();
        let of_last = kept.pop_if(|(place, _)| *place as usize == starts.len());
        let of_last = of_last.into_iter().map(|(_, kept)| (0, kept)).collect();
        let large = bytes.split_off(last);
        vec![Offer { bytes, starts, kept }, Offer { bytes: large, starts: vec![0], kept: of_last }]
    }
}
