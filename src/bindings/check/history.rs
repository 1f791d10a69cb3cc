//! A history as a table of numbers: each value, key and process is interned once, whatever it is judged by.

use pyo3::gc::PyVisit;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple};
use pyo3::{PyTraverseError, intern};

use super::malformed;
use crate::check::linearizability::{Kind, NEVER, NOTHING, Value};

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    Fail,
    Unknown,
}

/// One row, in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) process: u32,
    /// An index into the names of operations.
    pub(super) operation: u32,
    pub(super) value: Value,
    pub(super) result: Value,
    pub(super) key: u32,
    pub(super) outcome: Outcome,
    pub(super) call: u32,
    pub(super) end: u32,
    /// The two parts of a pair; what a compare-and-swap expects and puts.
    pub(super) pair: Option<(Value, Value)>,
    /// The list of this one value.
    pub(super) single: Value,
}

/// Values by number, each once by Python's own equality.
struct Values {
    numbers: Py<PyDict>,
    values: Vec<Py<PyAny>>,
}

impl Values {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let mut values = Self { numbers: PyDict::new(py).unbind(), values: Vec::new() };
        values.number(py, py.None().bind(py))?;
        Ok(values)
    }

    fn number(&mut self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Value> {
        // Most of what clients say is small and known by now.
        if value.is_none() && !self.values.is_empty() {
            return Ok(NOTHING);
        }
        let frozen = freeze(value)?;
        let numbers = self.numbers.bind(py);
        if let Some(known) = numbers.get_item(&frozen)? {
            return known.extract();
        }
        let number = self.values.len() as Value;
        numbers.set_item(&frozen, number)?;
        self.values.push(frozen.unbind());
        Ok(number)
    }
}

/// What lists, sets and dicts were, as something that can be looked up; a list is as good as an equal tuple.
fn freeze<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = value.py();
    if value.is_exact_instance_of::<PyInt>() || value.is_exact_instance_of::<PyString>() {
        return Ok(value.clone());
    }
    if value.is_instance_of::<PyList>() || value.is_exact_instance_of::<PyTuple>() {
        let items = value.try_iter()?.map(|item| freeze(&item?)).collect::<PyResult<Vec<_>>>()?;
        return Ok(PyTuple::new(py, items)?.into_any());
    }
    if value.is_instance_of::<PySet>() || value.is_instance_of::<PyFrozenSet>() {
        let items = value.try_iter()?.map(|item| freeze(&item?)).collect::<PyResult<Vec<_>>>()?;
        return Ok(PyFrozenSet::new(py, items)?.into_any());
    }
    if let Ok(pairs) = value.cast::<PyDict>() {
        let pairs = pairs.iter().map(|(key, value)| PyTuple::new(py, [key, freeze(&value)?]));
        return Ok(PyFrozenSet::new(py, pairs.collect::<PyResult<Vec<_>>>()?)?.into_any());
    }
    Ok(value.clone())
}

/// The whole history.
pub(super) struct Table {
    pub(super) records: Vec<Record>,
    pub(super) names: Vec<String>,
    values: Values,
    processes: Values,
    keys: Values,
    /// The record whose call is at a place.
    at: Vec<u32>,
    /// Whether and what each value consists of, by number: for appends and sets.
    contents: Vec<(Kind, Box<[Value]>)>,
    /// By number: whether it is a set, whose elements are its content.
    sets: Vec<bool>,
    pub(super) truth: Option<Value>,
    pub(super) lie: Option<Value>,
    pub(super) empty_list: Value,
}

impl Table {
    /// From columns of equal length: process, operation, value, result, start, end, outcome, key.
    pub(super) fn new(py: Python<'_>, columns: [&Bound<'_, PyAny>; 8]) -> PyResult<Self> {
        let [process, operation, value, result, start, end, outcome, key] =
            columns.map(|it| it.cast::<PyList>());
        let count = columns[0].len()?;
        let mut table = Self {
            records: Vec::with_capacity(count),
            names: Vec::new(),
            values: Values::new(py)?,
            processes: Values::new(py)?,
            keys: Values::new(py)?,
            at: Vec::new(),
            contents: Vec::new(),
            sets: Vec::new(),
            truth: None,
            lie: None,
            empty_list: NOTHING,
        };
        let names = PyDict::new(py);
        let (process, operation, value, result) = (process?, operation?, value?, result?);
        let (start, end, outcome, key) = (start?, end?, outcome?, key?);
        for index in 0..count {
            let say = |column: &'static str| {
                move |error: PyErr| {
                    let wrong = malformed(index, format_args!("{column}: {}", error.value(py)));
                    wrong.set_cause(py, Some(error));
                    wrong
                }
            };
            let name = operation.get_item(index)?;
            let name_number = if let Some(number) = names.get_item(&name).map_err(say("operation"))? {
                number.extract()?
            } else {
                let text = name.extract::<String>();
                let text = text.map_err(|_| malformed(index, "the operation is a name, such as \"read\""))?;
                let number = table.names.len() as u32;
                names.set_item(&name, number)?;
                table.names.push(text);
                number
            };
            let given = value.get_item(index)?;
            let mut record = Record {
                process: table.processes.number(py, &process.get_item(index)?).map_err(say("process"))?,
                operation: name_number,
                value: table.values.number(py, &given).map_err(say("value"))?,
                result: table.values.number(py, &result.get_item(index)?).map_err(say("result"))?,
                key: table.keys.number(py, &key.get_item(index)?).map_err(say("key"))?,
                outcome: outcome_of(index, &outcome.get_item(index)?)?,
                call: 0,
                end: NEVER,
                pair: None,
                single: NOTHING,
            };
            match &*table.names[name_number as usize] {
                "cas" => record.pair = table.pair(py, &given)?,
                "append" => {
                    let single = PyTuple::new(py, [&given])?;
                    record.single = table.values.number(py, &single).map_err(say("value"))?;
                }
                _ => {}
            }
            table.records.push(record);
        }
        table.place(start, end)?;
        table.look_inside(py)?;
        Ok(table)
    }

    pub(super) const fn len(&self) -> usize {
        self.records.len()
    }

    /// The records that have happened, or may have, in the order of their calls.
    pub(super) fn calls(&self) -> impl Iterator<Item = u32> + '_ {
        self.at.iter().copied().filter(|&record| record != u32::MAX)
    }

    /// The record whose call is at this place.
    pub(super) fn record_at(&self, place: u32) -> u32 {
        self.at[place as usize]
    }

    /// Objects by number, one a record, where they are not the keys.
    pub(super) fn objects(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
        let mut numbers = Values::new(py)?;
        let named = |(index, key): (usize, PyResult<Bound<'_, PyAny>>)| {
            numbers
                .number(py, &key?)
                .map_err(|error| malformed(index, format_args!("partition: {}", error.value(py))))
        };
        keys.try_iter()?.enumerate().map(named).collect()
    }

    fn pair(&mut self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Option<(Value, Value)>> {
        let is_sequence = value.is_instance_of::<PyTuple>() || value.is_instance_of::<PyList>();
        if !is_sequence || value.len()? != 2 {
            return Ok(None);
        }
        let (expected, new) = (value.get_item(0)?, value.get_item(1)?);
        Ok(Some((self.values.number(py, &expected)?, self.values.number(py, &new)?)))
    }

    /// Finds the places of all calls and ends.
    fn place(&mut self, start: &Bound<'_, PyList>, end: &Bound<'_, PyList>) -> PyResult<()> {
        let times = Times::read(&self.records, start, end)?;
        let mut marks = Vec::with_capacity(2 * self.records.len());
        for (index, record) in self.records.iter().enumerate() {
            if record.outcome == Outcome::Ok && times.is_before(2 * index + 1, 2 * index) {
                return Err(malformed(
                    index,
                    format_args!(
                        "it ends at {}, before it starts at {}",
                        end.get_item(index)?,
                        start.get_item(index)?
                    ),
                ));
            }
            match record.outcome {
                Outcome::Ok => marks.extend([2 * index, 2 * index + 1]),
                Outcome::Unknown => marks.push(2 * index),
                Outcome::Fail => {}
            }
        }
        times.sort(&mut marks);
        self.at = vec![u32::MAX; marks.len()];
        for (place, mark) in (0..).zip(marks) {
            let record = &mut self.records[mark / 2];
            if mark % 2 == 0 {
                record.call = place;
                self.at[place as usize] = (mark / 2) as u32;
            } else {
                record.end = place;
            }
        }
        Ok(())
    }

    /// What values consist of, where somebody may ask.
    fn look_inside(&mut self, py: Python<'_>) -> PyResult<()> {
        let appends = self.names.iter().any(|name| name == "append");
        self.empty_list = self.values.number(py, &PyTuple::empty(py))?;
        let find = |values: &Values, truth: bool| -> PyResult<Option<Value>> {
            values.numbers.bind(py).get_item(truth)?.map(|number| number.extract()).transpose()
        };
        (self.truth, self.lie) = (find(&self.values, true)?, find(&self.values, false)?);
        let mut next = 0;
        // Items are values, too, and may come to the end while one looks.
        while let Some(value) = self.values.values.get(next) {
            let value = value.clone_ref(py).into_bound(py);
            let (content, is_set) = if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
                ((Kind::Opaque, self.items(py, set)?), true)
            } else if let Ok(items) = value.cast_exact::<PyTuple>() {
                ((Kind::List, self.items(py, items)?), false)
            } else if appends {
                (symbols(&value)?, false)
            } else {
                ((Kind::Opaque, Box::from([])), false)
            };
            self.contents.push(content);
            self.sets.push(is_set);
            next += 1;
        }
        Ok(())
    }

    fn items(&mut self, py: Python<'_>, items: &Bound<'_, PyAny>) -> PyResult<Box<[Value]>> {
        items.try_iter()?.map(|item| self.values.number(py, &item?)).collect()
    }

    pub(super) fn contents(&self) -> &[(Kind, Box<[Value]>)] {
        &self.contents
    }

    /// The elements of a value that is a set, or a list.
    pub(super) fn elements(&self, value: Value) -> Option<&[Value]> {
        let (kind, content) = &self.contents[value as usize];
        (self.sets[value as usize] || *kind == Kind::List).then_some(&**content)
    }

    pub(super) fn value<'py>(&self, py: Python<'py>, value: Value) -> &Bound<'py, PyAny> {
        self.values.values[value as usize].bind(py)
    }

    /// The number of a value, if it is one of this history.
    pub(super) fn number(&self, value: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
        let numbers = self.values.numbers.bind(value.py());
        numbers.get_item(freeze(value)?)?.map(|number| number.extract()).transpose()
    }

    pub(super) fn integer(&self, py: Python<'_>, value: Value) -> Option<i64> {
        self.value(py, value).extract().ok()
    }

    pub(super) fn show(&self, py: Python<'_>, value: Value) -> String {
        self.value(py, value).repr().map_or_else(|_| "?".to_owned(), |shown| shown.to_string())
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for values in [&self.values, &self.processes, &self.keys] {
            visit.call(&values.numbers)?;
            values.values.iter().try_for_each(|value| visit.call(value))?;
        }
        Ok(())
    }
}

/// What text and bytes consist of.
pub(super) fn symbols(value: &Bound<'_, PyAny>) -> PyResult<(Kind, Box<[Value]>)> {
    if let Ok(text) = value.cast_exact::<PyString>() {
        return Ok((Kind::Text, text.to_cow()?.chars().map(u32::from).collect()));
    }
    if let Ok(bytes) = value.cast_exact::<PyBytes>() {
        return Ok((Kind::Bytes, bytes.as_bytes().iter().copied().map(u32::from).collect()));
    }
    Ok((Kind::Opaque, Box::from([])))
}

fn outcome_of(index: usize, outcome: &Bound<'_, PyAny>) -> PyResult<Outcome> {
    let py = outcome.py();
    if outcome.is(intern!(py, "ok")) {
        return Ok(Outcome::Ok);
    }
    match outcome.extract::<String>().as_deref() {
        Ok("ok") => Ok(Outcome::Ok),
        Ok("fail") => Ok(Outcome::Fail),
        Ok("unknown") => Ok(Outcome::Unknown),
        _ => Err(malformed(
            index,
            format_args!("the outcome is \"ok\", \"fail\" or \"unknown\", not {}", outcome.repr()?),
        )),
    }
}

/// Times of calls and ends: that of record `i`'s call is number `2 i`, that of its end `2 i + 1`.
enum Times {
    Whole(Vec<i64>),
    Real(Vec<f64>),
}

impl Times {
    fn read(records: &[Record], start: &Bound<'_, PyList>, end: &Bound<'_, PyList>) -> PyResult<Self> {
        let mut whole = Vec::with_capacity(2 * records.len());
        let mut real = Vec::new();
        let mut inexact = None;
        for (index, record) in records.iter().enumerate() {
            for (column, name) in [(start, "start"), (end, "end")] {
                // Only who was answered has an end.
                if name == "end" && record.outcome != Outcome::Ok {
                    whole.push(0);
                    real.push(0.0);
                    continue;
                }
                let time = column.get_item(index)?;
                let wrong = |error: PyErr| {
                    let wanted = if time.is_none() { "is missing" } else { "is no time" };
                    let wrong = malformed(index, format_args!("the {name} {wanted}: {error}"));
                    wrong.set_cause(time.py(), Some(error));
                    wrong
                };
                if let Ok(number) = time.cast::<PyInt>() {
                    let number: i64 = number.extract().map_err(wrong)?;
                    if number.unsigned_abs() > 1 << 53 {
                        inexact = Some(index);
                    }
                    whole.push(number);
                    real.push(number as f64);
                    continue;
                }
                let number: f64 = time.extract().map_err(wrong)?;
                if number.is_nan() {
                    return Err(malformed(index, format_args!("the {name} is not a number")));
                }
                // Minus zero is zero.
                real.push(number + 0.0);
            }
        }
        if whole.len() == real.len() {
            return Ok(Self::Whole(whole));
        }
        match inexact {
            Some(index) => Err(malformed(
                index,
                "its time is an integer too large to be compared with the floats that other times are; use one unit",
            )),
            None => Ok(Self::Real(real)),
        }
    }

    fn is_before(&self, one: usize, other: usize) -> bool {
        match self {
            Self::Whole(times) => times[one] < times[other],
            Self::Real(times) => times[one] < times[other],
        }
    }

    /// Sorts marks by their times; of one time, calls come before ends, so that who may have overlapped does.
    fn sort(&self, marks: &mut [usize]) {
        match self {
            Self::Whole(times) => marks.sort_unstable_by_key(|&mark| (times[mark], mark % 2, mark)),
            Self::Real(times) => marks.sort_unstable_by(|&one, &two| {
                times[one].total_cmp(&times[two]).then((one % 2, one).cmp(&(two % 2, two)))
            }),
        }
    }
}
