//! Python objects as messages. What is exactly an int of 64 bits, a float, a str, bytes or None goes by its value;
//! all else, subclasses and `True` among it, goes through pickle, so that it comes back as what it was.

use std::sync::Mutex;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString};

use super::super::guard;
use crate::pool::message::{Kind, append};

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
        taken
            .map(|object| object.into_bound(py))
            .ok_or_else(|| super::super::errors::internal("an object was lost"))
    }

    /// What stays on the shelf, for functions, which are called more than once.
    pub(super) fn look<'py>(&self, py: Python<'py>, handle: u64) -> PyResult<Bound<'py, PyAny>> {
        let found = guard::attached(py, &self.0, |shelf| {
            shelf
                .places
                .get(handle as usize)
                .and_then(|object| object.as_ref().map(|object| object.clone_ref(py)))
        })?;
        found
            .map(|object| object.into_bound(py))
            .ok_or_else(|| super::super::errors::internal("a function was lost"))
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

/// The bytes that `dumps` made of the object.
pub(super) fn pickled<R>(
    object: &Bound<'_, PyAny>,
    dumps: &Bound<'_, PyAny>,
    body: impl FnOnce(&[u8]) -> R,
) -> PyResult<R> {
    let made = dumps.call1((object,))?;
    if let Ok(bytes) = made.cast::<PyBytes>() {
        return Ok(body(bytes.as_bytes()));
    }
    let buffer = PyBuffer::<u8>::get(&made)?;
    if !buffer.is_c_contiguous() {
        return Err(PyValueError::new_err("a pickle in pieces"));
    }
    // SAFETY: contiguous bytes of an object that we hold, and nobody writes to a finished pickle.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes()) };
    Ok(body(bytes))
}

/// The object that a message holds.
#[inline]
pub(super) fn decode<'py>(
    py: Python<'py>,
    kind: Kind,
    body: &[u8],
    loads: Option<&Bound<'py, PyAny>>,
    objects: Option<&Objects>,
) -> PyResult<Bound<'py, PyAny>> {
    let word = || body.first_chunk::<8>().copied().unwrap_or_default();
    Ok(match (kind, loads, objects) {
        (Kind::None, ..) => py.None().into_bound(py),
        (Kind::Int, ..) => i64::from_le_bytes(word()).into_pyobject(py)?.into_any(),
        (Kind::Float, ..) => PyFloat::new(py, f64::from_bits(u64::from_le_bytes(word()))).into_any(),
        (Kind::Str, ..) => PyString::from_bytes(py, body)?.into_any(),
        (Kind::Bytes, ..) => PyBytes::new(py, body).into_any(),
        (Kind::Pickle, Some(loads), _) => loads.call1((PyBytes::new(py, body),))?,
        (Kind::Object, _, Some(objects)) => objects.take(py, u64::from_le_bytes(word()))?,
        _ => return Err(super::super::errors::internal("a message of another kind")),
    })
}

/// Items of one function, encoded side by side.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) starts: Vec<u32>,
    body_max: usize,
}

impl Encoded {
    pub(super) fn new(body_max: usize) -> Self {
        Self { bytes: Vec::new(), starts: Vec::new(), body_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Appends one item; says whether the batch must end with it, because it is too large to share one.
    #[inline]
    pub(super) fn push(
        &mut self,
        function: u32,
        item: &Bound<'_, PyAny>,
        dumps: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let start = self.bytes.len() as u32;
        if let Some(plain) = plain(item) {
            let mut scratch = [0; 8];
            let (kind, body) = plain.parts(&mut scratch);
            append(&mut self.bytes, kind, function, body);
        } else {
            let bytes = &mut self.bytes;
            pickled(item, dumps, |body| append(bytes, Kind::Pickle, function, body))?;
        }
        self.starts.push(start);
        Ok(self.bytes.len() - start as usize > self.body_max)
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

    /// What is there: all but the last, and the last by itself when it is large.
    pub(super) fn parts(&self) -> Vec<(&[u8], Vec<u32>)> {
        let last = self.starts.last().map_or(0, |&start| start as usize);
        let is_large = self.bytes.len() - last > self.body_max;
        if !is_large || self.starts.len() == 1 {
            return vec![(&self.bytes[..], self.starts.clone())];
        }
        let others = self.starts[..self.starts.len() - 1].to_vec();
        vec![(&self.bytes[..last], others), (&self.bytes[last..], vec![0])]
    }
}
