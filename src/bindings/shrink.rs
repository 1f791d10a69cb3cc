//! `World.shrink` and the test plugin over `crate::sim::shrink`: what a plan does is tried in Python.

use std::time::Duration;

use pyo3::exceptions::PyStopIteration;
use pyo3::prelude::*;

use super::guard;
use super::words::{Word, span};
use crate::sim::{Fault, Plan, Trial, shrink};

/// A smaller plan, when it fails (seconds), how many runs were tried, and whether there was time to try all.
type Smaller<'py> = (Bound<'py, PyAny>, f64, u64, bool);

/// Makes a failing plan smaller. `trial(faults, seconds)` runs one for at most so long and gives the time of the same
/// failure, or None; with `StopIteration` it ends the search. None when the plan itself does not fail again.
#[pyfunction]
pub(super) fn sim_shrink<'py>(
    py: Python<'py>,
    faults: &Bound<'py, PyAny>,
    seconds: f64,
    trial: &Bound<'py, PyAny>,
) -> PyResult<Option<Smaller<'py>>> {
    guard::shielded(|| {
        let plan = Plan::new(Vec::<Fault>::read(faults)?);
        let mut raised = None;
        let attempt = |plan: &Plan, length: Duration| {
            try_plan(trial, plan, length).unwrap_or_else(|error| {
                if !error.is_instance_of::<PyStopIteration>(py) {
                    raised = Some(error);
                }
                Trial::Stop
            })
        };
        let shrunk = shrink(&plan, span(seconds)?, attempt);
        if let Some(error) = raised {
            return Err(error);
        }
        let show = |shrunk: crate::sim::Shrunk| {
            let faults = shrunk.plan.faults.show(py)?;
            Ok((faults, shrunk.length.as_nanos() as f64 / 1e9, shrunk.trials, shrunk.exhausted))
        };
        shrunk.map(show).transpose()
    })
}

fn try_plan(trial: &Bound<'_, PyAny>, plan: &Plan, length: Duration) -> PyResult<Trial> {
    let py = trial.py();
    let failed: Option<f64> = trial.call1((plan.faults.show(py)?, length.show(py)?))?.extract()?;
    failed.map_or(Ok(Trial::Different), |at| Ok(Trial::Same(span(at)?)))
}
