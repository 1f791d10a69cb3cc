//! What protocols say, as Python sees it: frozen dataclasses with the names and fields that they have in Rust.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::id::NodeId;
use crate::time::Instant;

/// A value that Python has a word for.
pub(super) trait Word: Sized {
    /// As Python sees it.
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>>;

    /// What Python meant.
    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self>;
}

/// The dataclass of this name; imported once.
macro_rules! class {
    ($py:expr, $module:expr, $name:expr) => {{
        static CLASS: pyo3::sync::PyOnceLock<pyo3::Py<pyo3::types::PyType>> = pyo3::sync::PyOnceLock::new();
        CLASS.import($py, $module, $name)
    }};
}
pub(super) use class;

/// The field `name` of `value`; a complaint names both.
pub(super) fn field<T: Word>(value: &Bound<'_, PyAny>, name: &str) -> PyResult<T> {
    T::read(&value.getattr(name)?).map_err(|error| {
        let py = value.py();
        let type_name = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        let told = format!("{type_name}.{name}: {}", error.value(py));
        let wrong = if error.is_instance_of::<PyTypeError>(py) {
            PyTypeError::new_err(told)
        } else {
            PyValueError::new_err(told)
        };
        wrong.set_cause(py, Some(error));
        wrong
    })
}

/// The class of `value`, for a complaint.
pub(super) fn unexpected(value: &Bound<'_, PyAny>, wanted: &str) -> PyErr {
    let found = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("expected {wanted}, not {found}"))
}

/// Makes an enum a family of dataclasses: `Type in "module", "what it is" { Variant { fields }, Variant(names) }`.
macro_rules! family {
    ($type:ty, $module:literal, $what:literal, {
        $( $name:ident $({ $($field:ident),* $(,)? })? $(( $($place:ident),* ))? ),* $(,)?
    }) => {
        impl $crate::bindings::words::Word for $type {
            fn show<'py>(&self, py: pyo3::Python<'py>) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> {
                match self {
                    $( Self::$name $({ $($field),* })? $(( $($place),* ))? => {
                        let class = $crate::bindings::words::class!(py, $module, stringify!($name))?;
                        class.call1(($( $( $crate::bindings::words::Word::show($field, py)?, )* )?
                                     $( $( $crate::bindings::words::Word::show($place, py)?, )* )?))
                    } )*
                }
            }

            fn read(value: &pyo3::Bound<'_, pyo3::PyAny>) -> pyo3::PyResult<Self> {
                $( if value.is_exact_instance($crate::bindings::words::class!(value.py(), $module, stringify!($name))?) {
                    return Ok(Self::$name
                        $({ $($field: $crate::bindings::words::field(value, stringify!($field))?),* })?
                        $(( $($crate::bindings::words::field(value, stringify!($place))?),* ))?);
                } )*
                Err($crate::bindings::words::unexpected(value, $what))
            }
        }
    };
}
pub(super) use family;

/// Makes a struct with public fields a dataclass.
macro_rules! dataclass {
    ($type:ident, $module:literal, $name:literal, { $($field:ident),* $(,)? }) => {
        impl $crate::bindings::words::Word for $type {
            fn show<'py>(&self, py: pyo3::Python<'py>) -> pyo3::PyResult<pyo3::Bound<'py, pyo3::PyAny>> {
                let class = $crate::bindings::words::class!(py, $module, $name)?;
                class.call1(($( $crate::bindings::words::Word::show(&self.$field, py)?, )*))
            }

            fn read(value: &pyo3::Bound<'_, pyo3::PyAny>) -> pyo3::PyResult<Self> {
                if !value.is_exact_instance($crate::bindings::words::class!(value.py(), $module, $name)?) {
                    return Err($crate::bindings::words::unexpected(value, concat!("a ", $name)));
                }
                Ok(Self { $($field: $crate::bindings::words::field(value, stringify!($field))?),* })
            }
        }
    };
}
pub(super) use dataclass;

macro_rules! plain {
    ($($type:ty),*) => { $(
        impl Word for $type {
            fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
                Ok(self.into_pyobject(py)?.to_owned().into_any())
            }

            fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
                value.extract()
            }
        }
    )* };
}
plain!(u8, u64, usize, bool, String);

impl Word for NodeId {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.0.show(py)
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        u64::read(value).map(Self)
    }
}

/// Python counts time in seconds. Up to 2^51 nanoseconds (26 days), they come back as the same nanosecond.
impl Word for Instant {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(seconds_of(*self).into_pyobject(py)?.into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        instant(value.extract()?)
    }
}

/// An instant in seconds; infinity for one that never comes.
pub(super) fn seconds_of(instant: Instant) -> f64 {
    if instant == Instant::NEVER { f64::INFINITY } else { instant.as_nanos() as f64 / 1e9 }
}

/// The instant nearest to so many seconds.
pub(super) fn instant(seconds: f64) -> PyResult<Instant> {
    if seconds.is_nan() || seconds < 0.0 {
        return Err(PyValueError::new_err(format!(
            "{seconds} is no time: times are seconds, from 0 to infinity"
        )));
    }
    // The cast saturates, and what saturates never comes.
    Ok(Instant::from_nanos((seconds * 1e9).round() as u64))
}

/// The span nearest to so many seconds.
pub(super) fn span(seconds: f64) -> PyResult<Duration> {
    instant(seconds).map(|at| if at == Instant::NEVER { Duration::MAX } else { at - Instant::ZERO })
}

impl Word for Bytes {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyBytes::new(py, self).into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let bytes = value.cast_exact::<PyBytes>().map_err(|_| unexpected(value, "bytes"))?;
        Ok(Self::copy_from_slice(bytes.as_bytes()))
    }
}

impl<T: Word> Word for Option<T> {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.as_ref().map_or_else(|| Ok(py.None().into_bound(py)), |value| value.show(py))
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if value.is_none() { Ok(None) } else { T::read(value).map(Some) }
    }
}

impl<T: Word> Word for Arc<T> {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        (**self).show(py)
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        T::read(value).map(Self::new)
    }
}

impl<T: Word> Word for Vec<T> {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let items = self.iter().map(|item| item.show(py)).collect::<PyResult<Vec<_>>>()?;
        Ok(PyTuple::new(py, items)?.into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        if !(value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyList>()) {
            return Err(unexpected(value, "a tuple"));
        }
        value.try_iter()?.map(|item| T::read(&item?)).collect()
    }
}

impl<A: Word, B: Word> Word for (A, B) {
    fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(PyTuple::new(py, [self.0.show(py)?, self.1.show(py)?])?.into_any())
    }

    fn read(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (one, two): (Bound<'_, PyAny>, Bound<'_, PyAny>) = value.extract()?;
        Ok((A::read(&one)?, B::read(&two)?))
    }
}

/// What is one of a few words, such as a role or a timer: a string.
pub(super) fn one_of<T: Copy + ToString>(value: &Bound<'_, PyAny>, all: &[T], what: &str) -> PyResult<T> {
    let word = value.cast::<PyString>().map_err(|_| unexpected(value, what))?.to_cow()?;
    all.iter().copied().find(|known| known.to_string() == *word).ok_or_else(|| {
        let known: Vec<String> = all.iter().map(|known| format!("{:?}", known.to_string())).collect();
        PyValueError::new_err(format!("{word:?} is no {what}; there are {}", known.join(", ")))
    })
}
