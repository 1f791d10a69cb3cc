//! Items on their way into the pool.

use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList, PyRange, PyRangeMethods, PyTuple};

use super::PoolCore;
use super::codec::{self, Encoded, Sender};
use super::stopwatch::Spent;
use crate::pool::driver::Pool;
use crate::pool::message::{Kind, Number};
use crate::pool::scheduler::JobId;

/// Items are encoded and handed out in slices of this many bytes, so that workers begin while others are encoded.
const SLICE: usize = 1 << 15;

/// Where items come from. Lists, tuples and ranges are read without an iterator of Python's.
pub(super) enum Source {
    Range { next: u64, step: u64, left: u64 },
    List(Py<PyList>, usize),
    Tuple(Py<PyTuple>, usize),
    Iterator(Py<PyIterator>),
}

/// One of them.
pub(super) enum Item<'py> {
    Number(u64),
    Object(Bound<'py, PyAny>),
}

impl Source {
    /// `numbers`: whether a range may be read as numbers.
    pub(super) fn of(items: &Bound<'_, PyAny>, numbers: bool) -> PyResult<Self> {
        if let Ok(list) = items.cast_exact::<PyList>() {
            return Ok(Self::List(list.clone().unbind(), 0));
        }
        if let Ok(tuple) = items.cast_exact::<PyTuple>() {
            return Ok(Self::Tuple(tuple.clone().unbind(), 0));
        }
        let range = items.cast_exact::<PyRange>().ok().filter(|_| numbers);
        Ok(match range.and_then(Self::of_range) {
            Some(range) => range,
            None => Self::Iterator(items.try_iter()?.unbind()),
        })
    }

    /// Nothing when it has numbers that do not fit.
    fn of_range(range: &Bound<'_, PyRange>) -> Option<Self> {
        let (start, step) = (range.start().ok()?, range.step().ok()?);
        range.stop().ok()?; // it fits, so all between the two do
        Some(Self::Range { next: start as u64, step: step as u64, left: range.len().ok()? as u64 })
    }

    #[inline]
    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Item<'py>>> {
        let object = match self {
            Self::Range { left: 0, .. } => return Ok(None),
            Self::Range { next, step, left } => {
                let bits = *next;
                *next = bits.wrapping_add(*step);
                *left -= 1;
                return Ok(Some(Item::Number(bits)));
            }
            // It may have become shorter meanwhile.
            Self::List(list, at) if *at >= list.bind(py).len() => None,
            Self::List(list, at) => {
                *at += 1;
                Some(list.bind(py).get_item(*at - 1)?)
            }
            Self::Tuple(tuple, at) if *at >= tuple.bind(py).len() => None,
            Self::Tuple(tuple, at) => {
                *at += 1;
                Some(tuple.bind(py).get_item(*at - 1)?)
            }
            Self::Iterator(iterator) => iterator.bind(py).clone().next().transpose()?,
        };
        Ok(object.map(Item::Object))
    }
}

/// Items of one job that are offered one after another.
pub(super) struct Offering<'a, 'py> {
    core: &'a PoolCore,
    pool: &'a Pool,
    py: Python<'py>,
    sender: Sender<'a, 'py>,
    job: JobId,
    function: u32,
    waits: bool,
    batch: Encoded,
    first: Option<u64>,
    watch: Spent<'a>,
}

impl<'a, 'py> Offering<'a, 'py> {
    pub(super) fn new(
        core: &'a PoolCore,
        py: Python<'py>,
        job: JobId,
        function: u32,
        waits: bool,
    ) -> PyResult<Self> {
        let pool = core.ours()?;
        let batch = Encoded::new(pool.body_max());
        let watch = Spent::on(&core.encoding);
        let sender = core.sender(py)?;
        Ok(Self { core, pool, py, sender, job, function, waits, batch, first: None, watch })
    }

    /// Up to `most` more items of a source; says whether it has none any more. It stops when the arena is full.
    pub(super) fn some(&mut self, source: &mut Source, mut most: u64) -> PyResult<bool> {
        self.sender.is_crowded.set(false);
        while most > 0 && !self.sender.is_crowded.get() {
            let Some(item) = source.next(self.py)? else { return Ok(true) };
            match item {
                Item::Number(bits) => self.push_number(Number { kind: Kind::Int, bits }),
                Item::Object(object) => self.push(&object)?,
            }
            most -= 1;
        }
        Ok(false)
    }

    /// All items of a source, whether there is room in the arena or not.
    pub(super) fn all(&mut self, source: &mut Source) -> PyResult<()> {
        while !self.some(source, u64::MAX)? {}
        Ok(())
    }

    #[inline]
    fn push_number(&mut self, number: Number) {
        self.batch.push_number(self.function, number);
        if self.batch.bytes.len() > SLICE {
            self.hand_out(false);
        }
    }

    #[inline]
    fn push(&mut self, item: &Bound<'py, PyAny>) -> PyResult<()> {
        if !self.core.threads
            && let Some(number) = codec::number(item)
        {
            self.push_number(number);
            return Ok(());
        }
        self.push_other(item)
    }

    fn push_other(&mut self, item: &Bound<'py, PyAny>) -> PyResult<()> {
        let encoded = if self.core.threads {
            self.batch.push_object(self.function, item, &self.core.objects)
        } else {
            self.batch.push(self.function, item, &self.sender)
        };
        match encoded {
            Ok(is_large) => {
                if is_large || self.batch.bytes.len() > SLICE {
                    self.hand_out(false);
                }
            }
            Err(error) => {
                if !self.batch.is_empty() {
                    self.hand_out(false);
                }
                let handle = self.core.objects.put(error.value(self.py))?.to_le_bytes();
                let index = self.pool.offer_failed(self.job, self.function, Kind::ObjectError, &handle);
                self.first.get_or_insert(index);
            }
        }
        Ok(())
    }

    fn hand_out(&mut self, sealed: bool) {
        let Self { pool, job, function, waits, batch, .. } = self;
        let index = self.watch.aside(|| hand_out(pool, *job, *function, batch, sealed, *waits));
        self.first.get_or_insert(index);
    }

    /// Hands out what is left; says the index of the first item, if there was one.
    pub(super) fn finish(mut self, sealed: bool) -> Option<u64> {
        if !self.batch.is_empty() {
            self.hand_out(sealed);
        } else if sealed {
            let first = self.first;
            self.hand_out(true);
            self.first = first;
        }
        self.first
    }
}

/// Hands out what is in the batch, which is empty then; says the index of the first.
pub(super) fn hand_out(
    pool: &Pool,
    job: JobId,
    function: u32,
    batch: &mut Encoded,
    sealed: bool,
    waits: bool,
) -> u64 {
    let parts = batch.parts();
    let last = parts.len() - 1;
    let mut first = None;
    for (place, offer) in parts.into_iter().enumerate() {
        let index = pool.offer(job, function, offer, sealed && place == last, waits);
        first.get_or_insert(index);
    }
    first.unwrap_or_default()
}
