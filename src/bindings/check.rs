//! `coterie.check` over `crate::check::linearizability`: histories that Python tells, and verdicts on them.

mod history;
mod models;
mod python_model;

use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use self::history::Table;
use self::models::{Chosen, with_model};
use super::{errors, guard};
use crate::check::linearizability::{
    Conflict, Judge, Limits, Model, Operation, Progress, Reason, Role, Verdict,
};

/// How many configurations are looked at before somebody looks at the clock and for Ctrl-C: a few milliseconds.
const SLICE: u64 = 50_000;

/// The compiled half of `coterie.check.History`.
#[pyclass(frozen, module = "coterie._coterie")]
pub(super) struct CheckHistory {
    table: Table,
}

/// The operations of one object that no order explains, as records of a history; and the place where the search ended.
#[pyclass(frozen, module = "coterie._coterie")]
pub(super) struct CheckPart {
    /// By call.
    records: Vec<u32>,
    place: Option<u32>,
}

#[pymethods]
impl CheckPart {
    fn __len__(&self) -> usize {
        self.records.len()
    }
}

/// What of a judgement Python hears: the outcome, why it is unknown, and the part that is wrong.
type Heard = (&'static str, Option<String>, Option<CheckPart>);

/// The records of a conflict, their roles, and whether it is the smallest.
type Found = (Vec<u32>, Vec<&'static str>, bool);

#[pymethods]
impl CheckHistory {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "one for each column")]
    fn new(
        py: Python<'_>,
        process: &Bound<'_, PyAny>,
        operation: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        result: &Bound<'_, PyAny>,
        start: &Bound<'_, PyAny>,
        end: &Bound<'_, PyAny>,
        outcome: &Bound<'_, PyAny>,
        key: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        guard::shielded(|| {
            let table = Table::new(py, [process, operation, value, result, start, end, outcome, key])?;
            Ok(Self { table })
        })
    }

    /// Judges it by a model. `keys` are the objects that the records touch, when they are not those of the history.
    fn _judge(
        &self,
        py: Python<'_>,
        model: &str,
        settings: &Bound<'_, PyTuple>,
        keys: Option<&Bound<'_, PyAny>>,
        timeout: f64,
        memory: u64,
    ) -> PyResult<Heard> {
        guard::shielded(|| {
            let chosen = Chosen::new(model, settings)?;
            let objects = keys.map(|keys| self.table.objects(py, keys)).transpose()?;
            with_model!(py, &self.table, &chosen, objects.as_deref(), None, |model, operations| {
                self.judge(py, model, operations, Budget::new(timeout, memory))
            })
        })
    }

    /// The smallest conflict in a part that was found to be wrong.
    #[expect(clippy::too_many_arguments, reason = "those of the judgement, and the part")]
    fn _conflict(
        &self,
        py: Python<'_>,
        part: &CheckPart,
        model: &str,
        settings: &Bound<'_, PyTuple>,
        timeout: f64,
        memory: u64,
    ) -> PyResult<Found> {
        guard::shielded(|| {
            let chosen = Chosen::new(model, settings)?;
            with_model!(py, &self.table, &chosen, None, Some(&*part.records), |model, operations| {
                self.conflict(py, model, operations, part.place, Budget::new(timeout, memory))
            })
        })
    }

    fn __len__(&self) -> usize {
        self.table.len()
    }

    fn __traverse__(&self, visit: pyo3::gc::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.table.traverse(&visit)
    }
}

/// A model that Python may hear an error of.
pub(super) trait Raises: Model {
    /// The error that it raised.
    fn raised(&self, py: Python<'_>) -> Option<PyErr>;
}

/// How long, and how much.
#[derive(Clone, Copy)]
struct Budget {
    /// `None`: for ever.
    deadline: Option<Instant>,
    limits: Limits,
}

impl Budget {
    #[expect(clippy::disallowed_methods, reason = "this is where a time-out is kept: cores read no clock")]
    fn new(timeout: f64, memory: u64) -> Self {
        let span = Duration::try_from_secs_f64(timeout).ok();
        let deadline = span.and_then(|span| Instant::now().checked_add(span));
        Self { deadline, limits: Limits { memory: usize::try_from(memory).unwrap_or(usize::MAX) } }
    }

    #[expect(clippy::disallowed_methods, reason = "as above")]
    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl CheckHistory {
    fn judge<M: Raises + Send>(
        &self,
        py: Python<'_>,
        model: M,
        operations: Vec<Operation<M::Action>>,
        budget: Budget,
    ) -> PyResult<Heard>
    where
        M::Action: Send,
    {
        let (mut judge, mut progress) = py.detach(|| {
            let mut judge = Judge::new(model, operations, budget.limits);
            let progress = judge.advance(SLICE);
            (judge, progress)
        });
        loop {
            if let Some(raised) = judge.model().raised(py) {
                return Err(raised);
            }
            match progress {
                Progress::Working if budget.is_over() => {
                    return Ok(("unknown", Some("the time allowed was over".to_owned()), None));
                }
                Progress::Working => {
                    py.check_signals()?;
                    progress = py.detach(|| judge.advance(SLICE));
                }
                Progress::Done(Verdict::Linearizable) => return Ok(("linearizable", None, None)),
                Progress::Done(Verdict::Unknown(reason)) => {
                    return Ok(("unknown", Some(told(reason)), None));
                }
                Progress::Done(Verdict::Violation { place }) => {
                    let records = judge.part().iter().map(|it| self.table.record_at(it.call)).collect();
                    return Ok(("violation", None, Some(CheckPart { records, place })));
                }
            }
        }
    }

    fn conflict<M: Raises + Send>(
        &self,
        py: Python<'_>,
        model: M,
        operations: Vec<Operation<M::Action>>,
        place: Option<u32>,
        budget: Budget,
    ) -> PyResult<Found>
    where
        M::Action: Send,
    {
        let mut conflict = Conflict::new(model, operations, place, budget.limits);
        let mut smallest;
        loop {
            smallest = py.detach(|| conflict.advance(SLICE));
            if let Some(raised) = conflict.model().raised(py) {
                return Err(raised);
            }
            if smallest || budget.is_over() {
                break;
            }
            py.check_signals()?;
        }
        let word = |role| match role {
            Role::Answered => "answered",
            Role::Perhaps => "perhaps",
            Role::Last => "last",
        };
        let found = conflict.operations();
        let (records, roles) =
            found.map(|(operation, role)| (self.table.record_at(operation.call), word(role))).unzip();
        Ok((records, roles, smallest))
    }
}

fn told(reason: Reason) -> String {
    match reason {
        Reason::Memory => "the search would have needed more memory than allowed".to_owned(),
        Reason::Width { operations } => format!(
            "{operations} operations on one object are pending at once or have unknown outcomes, more than the search \
             keeps apart (1,024)"
        ),
        Reason::Model => "the model failed".to_owned(),
    }
}

/// A record that is not as it should be.
fn malformed(record: usize, what: impl std::fmt::Display) -> PyErr {
    errors::ConfigError::new_err(format!("record {record}: {what}"))
}
