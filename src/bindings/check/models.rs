//! Records as the actions of a model: what each operation's name, value and result mean to it.

use std::collections::BTreeMap;

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyTuple};

use super::history::{Outcome, Record, Table, symbols};
use super::{Raises, malformed};
use crate::bindings::errors;
use crate::check::linearizability::{
    Counter, CounterAction, Kind, Lock, LockAction, NOTHING, Operation, Queue, QueueAction, Register,
    RegisterAction, Sequences, Set, SetAction, Value,
};

/// A model that Python has chosen, with its settings.
pub(super) enum Chosen<'py> {
    Register {
        initial: Bound<'py, PyAny>,
        verbs: &'static [(&'static str, RegisterVerb)],
        name: &'static str,
    },
    Queue,
    Lock {
        expires: bool,
    },
    Counter {
        initial: i64,
    },
    Set,
    List,
    Python {
        model: Bound<'py, PyAny>,
        reads: Vec<String>,
        refused: Bound<'py, PyAny>,
        unheard: Bound<'py, PyAny>,
    },
}

impl<'py> Chosen<'py> {
    pub(super) fn new(kind: &str, settings: &Bound<'py, PyTuple>) -> PyResult<Self> {
        let first = || settings.get_item(0);
        Ok(match kind {
            "register" => Self::Register { initial: first()?, verbs: REGISTER, name: "register" },
            "cas-register" => Self::Register { initial: first()?, verbs: CAS_REGISTER, name: "cas-register" },
            "key-value" => Self::Register { initial: first()?, verbs: KEY_VALUE, name: "key-value" },
            "queue" => Self::Queue,
            "lock" => Self::Lock { expires: first()?.extract()? },
            "counter" => Self::Counter { initial: first()?.extract()? },
            "set" => Self::Set,
            "list" => Self::List,
            "python" => {
                let (model, reads, refused, unheard) = settings.extract()?;
                Self::Python { model, reads, refused, unheard }
            }
            other => return Err(errors::ConfigError::new_err(format!("there is no model {other:?}"))),
        })
    }
}

/// Makes the chosen model and its operations, and does something with them, whatever their type.
macro_rules! with_model {
    ($py:expr, $table:expr, $chosen:expr, $objects:expr, $part:expr, |$model:ident, $operations:ident| $body:expr) => {{
        let rows = $crate::bindings::check::models::Rows { table: $table, objects: $objects, part: $part };
        match $chosen {
            $crate::bindings::check::models::Chosen::Register { initial, verbs, name } => {
                let ($model, $operations) = rows.register($py, initial, verbs, name)?;
                $body
            }
            $crate::bindings::check::models::Chosen::List => {
                let ($model, $operations) = rows.list($py)?;
                $body
            }
            $crate::bindings::check::models::Chosen::Queue => {
                let ($model, $operations) = rows.queue()?;
                $body
            }
            $crate::bindings::check::models::Chosen::Lock { expires } => {
                let ($model, $operations) = rows.lock($py, *expires)?;
                $body
            }
            $crate::bindings::check::models::Chosen::Counter { initial } => {
                let ($model, $operations) = rows.counter($py, *initial)?;
                $body
            }
            $crate::bindings::check::models::Chosen::Set => {
                let ($model, $operations) = rows.set()?;
                $body
            }
            $crate::bindings::check::models::Chosen::Python { model, reads, refused, unheard } => {
                let ($model, $operations) = rows.python($py, model, reads, refused, unheard)?;
                $body
            }
        }
    }};
}
pub(super) use with_model;

#[derive(Clone, Copy, Debug)]
pub(super) enum RegisterVerb {
    Read,
    Write,
    Delete,
    CompareAndSwap,
    Append,
}

const REGISTER: &[(&str, RegisterVerb)] = &[
    ("read", RegisterVerb::Read),
    ("write", RegisterVerb::Write),
    ("get", RegisterVerb::Read),
    ("put", RegisterVerb::Write),
    ("set", RegisterVerb::Write),
];
const CAS_REGISTER: &[(&str, RegisterVerb)] = &[
    ("read", RegisterVerb::Read),
    ("write", RegisterVerb::Write),
    ("cas", RegisterVerb::CompareAndSwap),
    ("get", RegisterVerb::Read),
    ("put", RegisterVerb::Write),
    ("set", RegisterVerb::Write),
];
const KEY_VALUE: &[(&str, RegisterVerb)] = &[
    ("get", RegisterVerb::Read),
    ("put", RegisterVerb::Write),
    ("delete", RegisterVerb::Delete),
    ("cas", RegisterVerb::CompareAndSwap),
    ("append", RegisterVerb::Append),
    ("read", RegisterVerb::Read),
    ("write", RegisterVerb::Write),
    ("set", RegisterVerb::Write),
];

/// The rows of a history that are judged.
pub(super) struct Rows<'a> {
    pub(super) table: &'a Table,
    /// By record, where they are not the keys.
    pub(super) objects: Option<&'a [u32]>,
    /// Only these, which are one object's.
    pub(super) part: Option<&'a [u32]>,
}

impl Rows<'_> {
    /// Each row's action, in the order of the calls.
    fn operations<A>(
        &self,
        mut action: impl FnMut(usize, &Record) -> PyResult<A>,
    ) -> PyResult<Vec<Operation<A>>> {
        let mut row = |index: u32, object| {
            let record = &self.table.records[index as usize];
            let action = action(index as usize, record)?;
            Ok(Operation { object, action, call: record.call, end: record.end })
        };
        if let Some(part) = self.part {
            return part.iter().map(|&index| row(index, 0)).collect();
        }
        let object = |index: u32| {
            self.objects.map_or(self.table.records[index as usize].key, |own| own[index as usize])
        };
        self.table.calls().map(|index| row(index, object(index))).collect()
    }

    /// What each name of an operation means.
    fn verbs<V: Copy>(&self, model: &str, known: &[(&str, V)]) -> PyResult<Vec<V>> {
        let verb = |(number, name): (usize, &String)| {
            known.iter().find(|(word, _)| word == name).map(|(_, verb)| *verb).ok_or_else(|| {
                let record = self.table.records.iter().position(|record| record.operation as usize == number);
                let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
                malformed(
                    record.unwrap_or_default(),
                    format_args!("a {model} has no operation {name:?}; it has {}", words.join(", ")),
                )
            })
        };
        self.table.names.iter().enumerate().map(verb).collect()
    }

    /// Whether something was so, where an answer must tell.
    fn truth(&self, py: Python<'_>, index: usize, record: &Record, what: &str) -> PyResult<bool> {
        match Some(record.result) {
            result if result == self.table.truth => Ok(true),
            result if result == self.table.lie => Ok(false),
            _ => Err(malformed(
                index,
                format_args!(
                    "the result of {what} is True or False, not {}",
                    self.table.show(py, record.result)
                ),
            )),
        }
    }

    /// The same where it need not.
    fn perhaps(&self, record: &Record) -> Option<bool> {
        match Some(record.result) {
            result if result == self.table.truth => Some(true),
            result if result == self.table.lie => Some(false),
            _ => None,
        }
    }

    fn integer(&self, py: Python<'_>, index: usize, value: Value, what: &str) -> PyResult<i64> {
        self.table.integer(py, value).ok_or_else(|| {
            malformed(
                index,
                format_args!("{what} is a whole number below 2^63, not {}", self.table.show(py, value)),
            )
        })
    }

    pub(super) fn register(
        &self,
        py: Python<'_>,
        initial: &Bound<'_, PyAny>,
        verbs: &[(&str, RegisterVerb)],
        name: &str,
    ) -> PyResult<(Register, Vec<Operation<RegisterAction>>)> {
        let meaning = self.verbs(name, verbs)?;
        let appends = meaning.iter().any(|verb| matches!(verb, RegisterVerb::Append));
        let known = self.table.number(initial)?;
        let initial_value = known.unwrap_or(self.table.contents().len() as Value);
        let operations = self.operations(|index, record| {
            let answered = record.outcome == Outcome::Ok;
            Ok(match meaning[record.operation as usize] {
                RegisterVerb::Read => RegisterAction::Read(record.result),
                RegisterVerb::Write => RegisterAction::Write(record.value),
                RegisterVerb::Delete => RegisterAction::Write(NOTHING),
                RegisterVerb::CompareAndSwap => {
                    let (expected, new) = record
                        .pair
                        .ok_or_else(|| malformed(index, "the value of a cas is a pair: (expected, new)"))?;
                    let swapped = answered && self.truth(py, index, record, "a cas")?;
                    RegisterAction::CompareAndSwap { expected, new, swapped }
                }
                RegisterVerb::Append => {
                    if self.table.contents()[record.value as usize].0 == Kind::Opaque {
                        return Err(malformed(index, "what is appended is a str, bytes or a list"));
                    }
                    RegisterAction::Append(record.value, self.length(py, record))
                }
            })
        })?;
        let sequences = appends.then(|| -> PyResult<Sequences> {
            let mut contents = self.table.contents().to_vec();
            if known.is_none() {
                contents.push(symbols(initial)?);
            }
            Ok(Sequences::new(contents))
        });
        Ok((Register::new(initial_value, sequences.transpose()?), operations))
    }

    /// How long something was, if that was told.
    fn length(&self, py: Python<'_>, record: &Record) -> Option<u32> {
        let told = record.outcome == Outcome::Ok && record.result != NOTHING;
        told.then(|| self.table.integer(py, record.result)).flatten()?.try_into().ok()
    }

    pub(super) fn list(&self, py: Python<'_>) -> PyResult<(Register, Vec<Operation<RegisterAction>>)> {
        let verbs =
            [("append", RegisterVerb::Append), ("read", RegisterVerb::Read), ("get", RegisterVerb::Read)];
        let meaning = self.verbs("list", &verbs)?;
        let operations = self.operations(|index, record| {
            let RegisterVerb::Read = meaning[record.operation as usize] else {
                return Ok(RegisterAction::Append(record.single, self.length(py, record)));
            };
            let answered = record.outcome == Outcome::Ok;
            // Nothing is as good as an empty list.
            let seen = if record.result == NOTHING { self.table.empty_list } else { record.result };
            if answered && self.table.contents()[seen as usize].0 != Kind::List {
                let shown = self.table.show(py, record.result);
                return Err(malformed(index, format_args!("a read of a list sees a list, not {shown}")));
            }
            Ok(RegisterAction::Read(seen))
        })?;
        let sequences = Sequences::new(self.table.contents().to_vec());
        Ok((Register::new(self.table.empty_list, Some(sequences)), operations))
    }

    pub(super) fn queue(&self) -> PyResult<(Queue, Vec<Operation<QueueAction>>)> {
        // Whether it puts in.
        let verbs = [
            ("enqueue", true),
            ("dequeue", false),
            ("put", true),
            ("get", false),
            ("push", true),
            ("pop", false),
        ];
        let meaning = self.verbs("queue", &verbs)?;
        let operations = self.operations(|index, record| {
            Ok(match (meaning[record.operation as usize], record.outcome) {
                (true, _) if record.value == NOTHING => {
                    return Err(malformed(
                        index,
                        "None cannot be enqueued: to dequeue it would be to find nothing",
                    ));
                }
                (true, _) => QueueAction::Enqueue(record.value),
                (false, Outcome::Ok) if record.result == NOTHING => QueueAction::DequeueEmpty,
                (false, Outcome::Ok) => QueueAction::Dequeue(record.result),
                (false, _) => QueueAction::DequeueUnheard,
            })
        })?;
        Ok((Queue::new(), operations))
    }

    pub(super) fn lock(&self, py: Python<'_>, expires: bool) -> PyResult<(Lock, Vec<Operation<LockAction>>)> {
        let meaning = self.verbs("lock", &[("acquire", true), ("release", false)])?;
        let mut tokens = BTreeMap::new();
        let mut unknown = 1;
        for (index, record) in self.table.records.iter().enumerate() {
            if !meaning[record.operation as usize] {
                continue;
            }
            unknown += i64::from(record.outcome == Outcome::Unknown);
            let told = self.table.value(py, record.result);
            if record.outcome != Outcome::Ok || record.result == NOTHING || told.is_instance_of::<PyBool>() {
                continue;
            }
            let token = self.integer(py, index, record.result, "a fencing token")?;
            if token < 1 && Some(record.result) != self.table.lie {
                return Err(malformed(index, "a fencing token is greater than 0"));
            }
            tokens.insert(token, 0_u32);
        }
        let fenced = !tokens.is_empty();
        if fenced {
            // 1 and True are one value to Python.
            tokens.insert(1, 0);
        }
        // Only their order counts, and whether so many as nobody heard of fit between.
        let (mut before, mut number) = (0, 0_u32);
        for (token, small) in &mut tokens {
            number = number.saturating_add((token - before).clamp(0, unknown).try_into().unwrap_or(u32::MAX));
            (before, *small) = (*token, number);
        }
        let operations = self.operations(|_, record| {
            let process = record.process;
            let refused = record.outcome == Outcome::Ok && self.perhaps(record) == Some(false);
            Ok(match (meaning[record.operation as usize], refused) {
                (true, true) => LockAction::AcquireRefused,
                (true, false) => {
                    let told = record.outcome == Outcome::Ok && record.result != NOTHING;
                    let token = told.then(|| self.table.integer(py, record.result)).flatten();
                    LockAction::Acquire {
                        process,
                        token: token.and_then(|token| tokens.get(&token).copied()),
                    }
                }
                (false, true) => LockAction::ReleaseRefused { process },
                (false, false) => LockAction::Release { process },
            })
        })?;
        Ok((Lock::new(fenced, expires), operations))
    }

    pub(super) fn counter(
        &self,
        py: Python<'_>,
        initial: i64,
    ) -> PyResult<(Counter, Vec<Operation<CounterAction>>)> {
        // By how much: times its value; a read not at all.
        let verbs = [("add", 1), ("increment", 1), ("decrement", -1), ("read", 0), ("get", 0)];
        let meaning = self.verbs("counter", &verbs)?;
        let operations = self.operations(|index, record| {
            let answered = record.outcome == Outcome::Ok;
            let sign = meaning[record.operation as usize];
            if sign == 0 {
                let seen =
                    if answered { self.integer(py, index, record.result, "what a read saw")? } else { 0 };
                return Ok(CounterAction::Read(seen));
            }
            let one = record.value == NOTHING;
            let amount = if one { 1 } else { self.integer(py, index, record.value, "what is added")? };
            let amount =
                amount.checked_mul(sign).ok_or_else(|| malformed(index, "that is too much for a counter"))?;
            let told = answered && record.result != NOTHING;
            let told = told.then(|| self.integer(py, index, record.result, "the new value")).transpose()?;
            Ok(CounterAction::Add(amount, told))
        })?;
        Ok((Counter::new(initial), operations))
    }

    pub(super) fn set(&self) -> PyResult<(Set, Vec<Operation<SetAction>>)> {
        #[derive(Clone, Copy)]
        enum Verb {
            Add,
            Remove,
            Contains,
            Read,
        }
        let verbs = [
            ("add", Verb::Add),
            ("remove", Verb::Remove),
            ("contains", Verb::Contains),
            ("read", Verb::Read),
            ("insert", Verb::Add),
            ("discard", Verb::Remove),
            ("get", Verb::Read),
        ];
        let meaning = self.verbs("set", &verbs)?;
        let mut seen: Vec<Box<[Value]>> = Vec::new();
        let mut numbers: BTreeMap<Value, u32> = BTreeMap::new();
        let operations = self.operations(|index, record| {
            let answered = record.outcome == Outcome::Ok;
            let told = answered.then(|| self.perhaps(record)).flatten();
            Ok(match meaning[record.operation as usize] {
                Verb::Add => SetAction::Insert(record.value, told),
                Verb::Remove => SetAction::Remove(record.value, told),
                Verb::Contains if answered => {
                    let wrong = || malformed(index, "the result of contains is True or False");
                    SetAction::Contains(record.value, told.ok_or_else(wrong)?)
                }
                Verb::Contains => SetAction::Contains(record.value, false),
                Verb::Read if !answered => SetAction::Members(0),
                Verb::Read => {
                    let number = seen.len() as u32;
                    let number = *numbers.entry(record.result).or_insert(number);
                    if number as usize == seen.len() {
                        let elements = self
                            .table
                            .elements(record.result)
                            .ok_or_else(|| malformed(index, "a read of a set sees a set, or a list"))?;
                        let mut elements = elements.to_vec();
                        elements.sort_unstable();
                        elements.dedup();
                        seen.push(elements.into());
                    }
                    SetAction::Members(number)
                }
            })
        })?;
        Ok((Set::new(seen), operations))
    }

    pub(super) fn python(
        &self,
        py: Python<'_>,
        model: &Bound<'_, PyAny>,
        reads: &[String],
        refused: &Bound<'_, PyAny>,
        unheard: &Bound<'_, PyAny>,
    ) -> PyResult<(super::python_model::PythonModel, Vec<Operation<u32>>)> {
        let mut model = super::python_model::PythonModel::new(model, refused)?;
        let operations = self.operations(|_, record| {
            let name = &self.table.names[record.operation as usize];
            let is_read = reads.contains(name);
            let value = self.table.value(py, record.value);
            let answered = record.outcome == Outcome::Ok;
            let result = if answered { self.table.value(py, record.result) } else { unheard };
            let told = (record.operation, record.value, answered.then_some(record.result));
            model.action(told, name, value, result, unheard, is_read)
        })?;
        Ok((model, operations))
    }
}

macro_rules! never_raises {
    ($($model:ty),*) => { $(
        impl Raises for $model {
            fn raised(&self, _: Python<'_>) -> Option<PyErr> {
                None
            }
        }
    )* };
}
never_raises!(Register, Queue, Lock, Counter, Set);
