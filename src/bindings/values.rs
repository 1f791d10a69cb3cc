//! What protocols in Python say to each other: encoded when it is pushed, so that nobody shares state.

use std::collections::BTreeMap;
use std::sync::Mutex;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use super::guard;
use crate::wire::value::{DEPTH_MAX, Integer, Value};

/// The dataclasses that were encoded, by name: so they come back as themselves, wherever they were defined.
#[derive(Default)]
pub(super) struct Classes(Mutex<BTreeMap<String, Py<PyType>>>);

impl Classes {
    /// The value of a Python object.
    pub(super) fn encode(&self, value: &Bound<'_, PyAny>) -> PyResult<Value> {
        self.nested(value, DEPTH_MAX)
    }

    fn nested(&self, value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
        let Some(below) = depth.checked_sub(1) else {
            return Err(PyValueError::new_err(format!(
                "values may be nested {DEPTH_MAX} deep; this one is deeper"
            )));
        };
        if value.is_none() {
            return Ok(Value::None);
        }
        if let Ok(truth) = value.cast_exact::<PyBool>() {
            return Ok(Value::Bool(truth.is_true()));
        }
        if let Ok(number) = value.cast_exact::<PyInt>() {
            return integer(number).map(Value::Int);
        }
        if let Ok(number) = value.cast_exact::<PyFloat>() {
            return Ok(Value::float(number.value()));
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            return Ok(Value::Str(text.to_cow()?.into_owned()));
        }
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            return Ok(Value::Bytes(bytes.as_bytes().to_vec().into()));
        }
        if let Ok(items) = value.cast_exact::<PyTuple>() {
            return items
                .iter()
                .map(|item| self.nested(&item, below))
                .collect::<PyResult<_>>()
                .map(Value::Tuple);
        }
        if let Ok(items) = value.cast_exact::<PyList>() {
            return items
                .iter()
                .map(|item| self.nested(&item, below))
                .collect::<PyResult<_>>()
                .map(Value::List);
        }
        if let Ok(pairs) = value.cast_exact::<PyDict>() {
            let pair = |(key, value)| Ok((self.nested(&key, below)?, self.nested(&value, below)?));
            return pairs.iter().map(pair).collect::<PyResult<_>>().map(Value::Dict);
        }
        self.dataclass(value, below)
    }

    fn dataclass(&self, value: &Bound<'_, PyAny>, below: usize) -> PyResult<Value> {
        let class = value.get_type();
        let frozen = class.getattr("__dataclass_params__").and_then(|given| given.getattr("frozen"));
        if !frozen.is_ok_and(|frozen| frozen.is_truthy().unwrap_or(false)) {
            let name = class.name()?;
            return Err(PyTypeError::new_err(format!(
                "{name} cannot be sent or kept: what processes emit is None, bool, int, float, str, bytes, list, \
                 tuple, dict, or a frozen dataclass of these"
            )));
        }
        let name = self.register(&class)?;
        let mut fields = Vec::new();
        for field in class.getattr("__dataclass_fields__")?.cast::<PyDict>()?.keys() {
            let content = value.getattr(field.cast::<PyString>()?)?;
            fields.push((field.extract()?, self.nested(&content, below)?));
        }
        Ok(Value::Record { name, fields })
    }

    /// Remembers a class by the name that its values carry.
    fn register(&self, class: &Bound<'_, PyType>) -> PyResult<String> {
        let py = class.py();
        let qualified = class.qualname()?.extract::<String>()?;
        // Where a class was defined says nothing about what its values mean.
        let name = qualified.rsplit_once("<locals>.").map_or(qualified.as_str(), |(_, name)| name).to_owned();
        let known = guard::attached(py, &self.0, |classes| {
            classes.entry(name.clone()).or_insert_with(|| class.clone().unbind()).clone_ref(py)
        })?;
        if known.is(class) {
            return Ok(name);
        }
        Err(PyTypeError::new_err(format!(
            "two classes of this world are called {name}; their names must differ"
        )))
    }

    /// The Python object of a value.
    pub(super) fn decode<'py>(&self, py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
        let all =
            |items: &[Value]| items.iter().map(|item| self.decode(py, item)).collect::<PyResult<Vec<_>>>();
        Ok(match value {
            Value::None => py.None().into_bound(py),
            Value::Bool(truth) => PyBool::new(py, *truth).to_owned().into_any(),
            Value::Int(number) => python_int(py, number)?,
            Value::Float(bits) => PyFloat::new(py, f64::from_bits(*bits)).into_any(),
            Value::Str(text) => PyString::new(py, text).into_any(),
            Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
            Value::List(items) => PyList::new(py, all(items)?)?.into_any(),
            Value::Tuple(items) => PyTuple::new(py, all(items)?)?.into_any(),
            Value::Dict(pairs) => {
                let dict = PyDict::new(py);
                for (key, value) in pairs {
                    dict.set_item(self.decode(py, key)?, self.decode(py, value)?)?;
                }
                dict.into_any()
            }
            Value::Record { name, fields } => self.revive(py, name, fields)?,
        })
    }

    /// A dataclass with these fields, which were checked when it was first made.
    fn revive<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        fields: &[(String, Value)],
    ) -> PyResult<Bound<'py, PyAny>> {
        let class =
            guard::attached(py, &self.0, |classes| classes.get(name).map(|class| class.clone_ref(py)))?
                .ok_or_else(|| PyTypeError::new_err(format!("no class of this world is called {name}")))?;
        let object = py.get_type::<PyAny>();
        let revived = object.call_method1("__new__", (class,))?;
        let set = object.getattr("__setattr__")?;
        for (field, value) in fields {
            set.call1((&revived, field, self.decode(py, value)?))?;
        }
        Ok(revived)
    }
}

fn integer(number: &Bound<'_, PyInt>) -> PyResult<Integer> {
    if let Ok(small) = number.extract::<i64>() {
        return Ok(small.into());
    }
    let magnitude = number.call_method0("__abs__")?;
    let bits: usize = magnitude.call_method0("bit_length")?.extract()?;
    let bytes = magnitude.call_method1("to_bytes", (bits.div_ceil(8), "little"))?;
    Ok(Integer::new(number.lt(0)?, bytes.cast::<PyBytes>()?.as_bytes().to_vec()))
}

fn python_int<'py>(py: Python<'py>, number: &Integer) -> PyResult<Bound<'py, PyAny>> {
    if let Some(small) = number.to_i64() {
        return Ok(small.into_pyobject(py)?.into_any());
    }
    let bytes = PyBytes::new(py, number.magnitude());
    let magnitude = py.get_type::<PyInt>().call_method1("from_bytes", (bytes, "little"))?;
    if number.is_negative() { magnitude.neg() } else { Ok(magnitude) }
}
