//! Rings for Python: one class over all of them.
//!
//! A lookup reads one snapshot, which holds the placement and the node objects together, so it sees the ring
//! before a change or after it and never a mixture; it takes no lock. A change computes the next snapshot while
//! detached and swaps it in under the lock, or begins again when somebody else was faster. Only `BoundedLoad`'s
//! placement lives under the lock itself, because each `acquire` changes it.

use std::os::raw::c_int;
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use pyo3::buffer::{Element, ElementType, PyBuffer, PyUntypedBuffer};
use pyo3::exceptions::{PyModuleNotFoundError, PyTypeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString};
use pyo3::{Borrowed, ffi, import_exception};

use super::errors::{ConfigError, EmptyRingError, UnknownNodeError};
use super::guard;
use crate::ring::{
    Anchor, BoundedLoad, ConsistentHash, HashFunction, Jump, Ketama, Key, Maglev, Node, Rendezvous, Ring,
    RingError, Variant, moved,
};

import_exception!(coterie.exceptions, RequestError);

/// From this many keys on, a batch is worth the start of threads (some 50 µs each).
const PARALLEL_MIN: usize = 16_384;
/// More threads than this wait for memory rather than compute.
const THREADS_MAX: usize = 8;

/// The compiled part of a ring. Use the classes of `coterie.ring`.
#[pyclass(name = "Ring", module = "coterie._coterie", frozen, subclass)]
pub(super) struct PyRing {
    snapshot: ArcSwap<Snapshot>,
    /// Held by whoever changes the ring. Lock only through `guard`.
    bounded: Mutex<Option<BoundedLoad>>,
}

/// A ring at one moment. It holds Python objects: the last reference is dropped while attached.
struct Snapshot {
    nodes: Vec<Py<PyAny>>,
    placement: Placement,
}

enum Placement {
    Free(Arc<Core>),
    /// `PyRing::bounded`, which belongs to this snapshot as long as the lock is held.
    Locked,
}

/// One of the rings whose lookups change nothing.
#[derive(Clone)]
pub(super) enum Core {
    ConsistentHash(ConsistentHash),
    Ketama(Ketama),
    Jump(Jump),
    Rendezvous(Rendezvous),
    Maglev(Maglev),
    Anchor(Anchor),
}

/// What a class was given, by the names of its parameters; each class sends its own.
#[derive(FromPyObject)]
struct Settings {
    #[pyo3(item)]
    kind: String,
    #[pyo3(item, default = 128)]
    replicas: u32,
    #[pyo3(item, default = "md5".to_owned())]
    hash: String,
    #[pyo3(item, default = "ketama".to_owned())]
    variant: String,
    #[pyo3(item, default = 65_537)]
    table_size: usize,
    #[pyo3(item, default = 16)]
    capacity: usize,
    #[pyo3(item, default = 0.25)]
    epsilon: f64,
}

/// What a ring remembers beyond nodes, weights and settings: Anchor's removed buckets and the bucket of each
/// node; `BoundedLoad`'s loads.
type Memory = (Vec<u32>, Vec<u32>, Vec<u64>);

/// Nodes, names, weights and memory.
type State = (Vec<Py<PyAny>>, Vec<String>, Vec<f64>, Memory);

#[pymethods]
impl PyRing {
    /// A ring of the kind that the settings name, or a copy of `origin`.
    #[new]
    #[pyo3(signature = (nodes, names, weights, settings: "dict[str, Any]", memory=None, origin=None))]
    fn new(
        py: Python<'_>,
        nodes: Vec<Py<PyAny>>,
        names: Vec<String>,
        weights: Vec<f64>,
        settings: &Bound<'_, PyDict>,
        memory: Option<Memory>,
        origin: Option<&Bound<'_, Self>>,
    ) -> PyResult<Self> {
        guard::shielded(|| {
            if let Some(origin) = origin {
                return origin.get().duplicate(py);
            }
            let settings: Settings = settings.extract()?;
            let cores =
                names.into_iter().zip(weights).map(|(name, weight)| Node::weighted(&name, weight)).collect();
            let built =
                py.detach(|| build(cores, &settings, memory)).map_err(|error| refused(py, &error, None))?;
            let (placement, bounded) = match built {
                Built::Core(core) => (Placement::Free(Arc::new(core)), None),
                Built::Bounded(bounded) => (Placement::Locked, Some(bounded)),
            };
            Ok(Self {
                snapshot: ArcSwap::from_pointee(Snapshot { nodes, placement }),
                bounded: Mutex::new(bounded),
            })
        })
    }

    /// The node that owns a key.
    ///
    /// Parameters
    /// ----------
    /// key : str, bytes or int
    ///     Text stands for its UTF-8, and an integer for its decimal text (in `Jump` for its 64 bits), so that
    ///     ``7``, ``"7"`` and ``b"7"`` agree.
    ///
    /// Returns
    /// -------
    /// object
    ///     The node, as it was given.
    ///
    /// Raises
    /// ------
    /// EmptyRingError
    ///     The ring has no nodes.
    /// TypeError
    ///     The key is something else.
    ///
    /// Examples
    /// --------
    /// >>> from coterie import ConsistentHash
    /// >>> ring = ConsistentHash(["red", "green", "blue"])
    /// >>> ring.get("user:42") in ring.nodes
    /// True
    /// >>> ring.get(7) == ring.get("7") == ring.get(b"7")
    /// True
    fn get(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let mut kept = None;
            let snapshot = self.snapshot.load();
            let key = read_key(key.as_borrowed(), snapshot.wraps(), &mut kept)?;
            let Placement::Free(core) = &snapshot.placement else {
                drop(snapshot);
                let (owner, snapshot) = self.read(py, |ring| ring.owner(key))?;
                return snapshot.node(py, owner);
            };
            snapshot.node(py, core.ring().owner(key))
        })
    }

    /// Several nodes for a key, for replication.
    ///
    /// Parameters
    /// ----------
    /// key : str, bytes or int
    ///     As for `get`.
    /// n : int
    ///     How many, at least 1.
    ///
    /// Returns
    /// -------
    /// list
    ///     `n` distinct nodes, the owner first; all nodes when the ring has fewer.
    ///
    /// Raises
    /// ------
    /// EmptyRingError
    ///     The ring has no nodes.
    /// ConfigError
    ///     `n` is below 1.
    ///
    /// Examples
    /// --------
    /// >>> from coterie import ConsistentHash
    /// >>> ring = ConsistentHash(["red", "green", "blue"])
    /// >>> first, second = ring.get_n("user:42", 2)
    /// >>> first == ring.get("user:42")
    /// True
    /// >>> ring.remove_node(first)
    /// >>> ring.get("user:42") == second
    /// True
    #[pyo3(signature = (key, n) -> "list[Any]")]
    fn get_n<'py>(&self, py: Python<'py>, key: &Bound<'py, PyAny>, n: isize) -> PyResult<Bound<'py, PyList>> {
        guard::shielded(|| {
            let count = usize::try_from(n).ok().filter(|&count| count > 0);
            let count =
                count.ok_or_else(|| ConfigError::new_err(format!("n is {n}; it must be at least 1")))?;
            let mut kept = None;
            let key = read_key(key.as_borrowed(), self.snapshot.load().wraps(), &mut kept)?;
            let (owners, snapshot) = self.read(py, |ring| ring.several(key, count))?;
            if owners.is_empty() {
                return Err(empty());
            }
            snapshot.list(py, &owners)
        })
    }

    /// The owner of each key, in one call: much faster than a loop over `get`.
    ///
    /// Parameters
    /// ----------
    /// keys : iterable of str, bytes or int, or NumPy array of integers or strings
    ///     As for `get`. An array is read without making a Python object of each element.
    ///
    /// Returns
    /// -------
    /// list
    ///     One node for each key, all from the same moment of the ring.
    ///
    /// Raises
    /// ------
    /// EmptyRingError
    ///     There are keys, but no nodes.
    /// TypeError
    ///     A key, or `keys` itself, is of a wrong type.
    ///
    /// Notes
    /// -----
    /// Other threads run meanwhile, and large batches use several cores.
    ///
    /// Examples
    /// --------
    /// >>> from coterie import ConsistentHash
    /// >>> ring = ConsistentHash(["red", "green", "blue"])
    /// >>> keys = ["user:1", "user:2", "user:3"]
    /// >>> ring.get_many(keys) == [ring.get(key) for key in keys]
    /// True
    #[pyo3(signature = (keys) -> "list[Any]")]
    fn get_many<'py>(&self, py: Python<'py>, keys: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        guard::shielded(|| {
            let (owners, snapshot) = self.batch(py, keys)?;
            snapshot.list(py, &owners)
        })
    }

    /// The owner of each key, as its position in ``list(ring)``. Needs NumPy.
    ///
    /// Parameters
    /// ----------
    /// keys : iterable of str, bytes or int, or NumPy array of integers or strings
    ///     As for `get_many`.
    ///
    /// Returns
    /// -------
    /// numpy.ndarray of intp, shape (len(keys),)
    ///     Positions, all from the same moment of the ring.
    ///
    /// Raises
    /// ------
    /// EmptyRingError
    ///     There are keys, but no nodes.
    /// ModuleNotFoundError
    ///     NumPy is not installed.
    ///
    /// Examples
    /// --------
    /// >>> import numpy as np
    /// >>> from coterie import ConsistentHash
    /// >>> ring = ConsistentHash(["red", "green", "blue"])
    /// >>> positions = ring.get_many_indices(np.arange(1_000))
    /// >>> np.bincount(positions).sum()
    /// np.int64(1000)
    /// >>> list(ring)[positions[7]] == ring.get(7)
    /// True
    fn get_many_indices<'py>(
        &self,
        py: Python<'py>,
        keys: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guard::shielded(|| {
            let numpy = py.import("numpy").map_err(|cause| without_numpy(py, cause))?;
            let (owners, _) = self.batch(py, keys)?;
            let positions: Vec<isize> = owners.into_iter().map(|owner| owner as isize).collect();
            let array = numpy.call_method1("empty", (positions.len(), "intp"))?;
            PyBuffer::<isize>::get(&array)?.copy_from_slice(py, &positions)?;
            Ok(array)
        })
    }

    fn __len__(&self) -> PyResult<usize> {
        guard::shielded(|| Ok(self.snapshot.load().nodes.len()))
    }

    /// The nodes, in order.
    fn _nodes(&self, py: Python<'_>) -> PyResult<Vec<Py<PyAny>>> {
        guard::shielded(|| Ok(self.snapshot.load_full().objects(py)))
    }

    /// The node of a name, in a tuple, since any object may be a node.
    fn _find(&self, py: Python<'_>, name: &str) -> PyResult<Option<(Py<PyAny>,)>> {
        guard::shielded(|| {
            let (at, snapshot) = self.read(py, |ring| position(ring, name))?;
            Ok(at.map(|at| (snapshot.nodes[at].clone_ref(py),)))
        })
    }

    fn _add(&self, py: Python<'_>, node: &Bound<'_, PyAny>, name: &str, weight: f64) -> PyResult<()> {
        guard::shielded(|| {
            let core = Node::weighted(name, weight);
            let nodes = |old: &[Py<PyAny>], _: usize| {
                old.iter().chain([node.as_unbound()]).map(|node| node.clone_ref(py)).collect()
            };
            self.change(py, node, name, |ring| ring.insert(core.clone()), nodes)
        })
    }

    fn _remove(&self, py: Python<'_>, node: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
        guard::shielded(|| {
            let nodes = |old: &[Py<PyAny>], at: usize| {
                let kept = old.iter().enumerate().filter(|&(i, _)| i != at);
                kept.map(|(_, node)| node.clone_ref(py)).collect()
            };
            self.change(py, node, name, |ring| ring.remove(name).map(|_| ()), nodes)
        })
    }

    /// The nodes and the share of keys of each.
    fn _shares(&self, py: Python<'_>) -> PyResult<(Vec<Py<PyAny>>, Vec<f64>)> {
        guard::shielded(|| {
            let (shares, snapshot) = self.read(py, |ring| ring.shares())?;
            Ok((snapshot.objects(py), shares))
        })
    }

    /// Share of the keys whose owner has another name in `other`.
    fn _moved(&self, py: Python<'_>, other: &Bound<'_, Self>) -> PyResult<f64> {
        guard::shielded(|| {
            let ((mine, _), (theirs, _)) = (self.stand(py)?, other.get().stand(py)?);
            Ok(py.detach(|| mine.moved(&theirs)))
        })
    }

    /// The nodes, their names and weights, and the memory: all that another process needs besides the settings.
    fn _state(&self, py: Python<'_>) -> PyResult<State> {
        guard::shielded(|| {
            let describe = |ring: &dyn Ring| {
                let names = ring.nodes().iter().map(|node| node.name.to_string()).collect();
                let weights = ring.nodes().iter().map(|node| node.weight).collect();
                (names, weights)
            };
            if self.is_bounded() {
                let ((names, weights), loads, snapshot) = self.locked(py, |bounded, snapshot| {
                    (describe(bounded), bounded.loads().to_vec(), snapshot)
                })?;
                return Ok((snapshot.objects(py), names, weights, (Vec::new(), Vec::new(), loads)));
            }
            let snapshot = self.snapshot.load_full();
            let Placement::Free(core) = &snapshot.placement else { unreachable!("a ring stays of its kind") };
            let (names, weights) = describe(core.ring());
            let memory = match &**core {
                Core::Anchor(anchor) => (anchor.removed().to_vec(), anchor.buckets().to_vec(), Vec::new()),
                _ => Memory::default(),
            };
            Ok((snapshot.objects(py), names, weights, memory))
        })
    }

    /// `BoundedLoad` only: places a key.
    fn _acquire(&self, py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        guard::shielded(|| {
            let mut kept = None;
            let key = read_key(key.as_borrowed(), false, &mut kept)?;
            let (owner, snapshot) = self.locked(py, |bounded, snapshot| (bounded.acquire(key), snapshot))?;
            snapshot.node(py, owner)
        })
    }

    /// `BoundedLoad` only: takes one key away from a node.
    fn _release(&self, py: Python<'_>, node: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
        guard::shielded(|| {
            let released = self.locked(py, |bounded, _| bounded.release(name))?;
            released.map_err(|error| refused(py, &error, Some(node)))
        })
    }

    /// `BoundedLoad` only: the nodes and the load of each.
    fn _loads(&self, py: Python<'_>) -> PyResult<(Vec<Py<PyAny>>, Vec<u64>)> {
        guard::shielded(|| {
            let (loads, snapshot) =
                self.locked(py, |bounded, snapshot| (bounded.loads().to_vec(), snapshot))?;
            Ok((snapshot.objects(py), loads))
        })
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.snapshot.load().nodes.iter().try_for_each(|node| visit.call(node))
    }

    fn __clear__(&self) {
        let empty = Core::Jump(Jump::new(Vec::new()).expect("no node to refuse"));
        self.snapshot
            .store(Arc::new(Snapshot { nodes: Vec::new(), placement: Placement::Free(Arc::new(empty)) }));
    }
}

impl PyRing {
    /// A copy of the placement for a balancer, the nodes by position, and whether integers beyond 64 bits wrap.
    pub(super) fn for_balancer(&self, py: Python<'_>) -> PyResult<(Standing, Vec<Py<PyAny>>, bool)> {
        let (standing, snapshot) = self.stand(py)?;
        Ok((standing, snapshot.objects(py), snapshot.wraps()))
    }

    /// Reads the placement, and hands back the snapshot that it belongs to.
    fn read<R>(&self, py: Python<'_>, body: impl FnOnce(&dyn Ring) -> R) -> PyResult<(R, Arc<Snapshot>)> {
        let snapshot = self.snapshot.load_full();
        if let Placement::Free(core) = &snapshot.placement {
            return Ok((body(core.ring()), snapshot));
        }
        self.locked(py, |bounded, snapshot| (body(bounded), snapshot))
    }

    /// Runs `body` on `BoundedLoad`'s placement, with the snapshot that it belongs to.
    fn locked<R>(
        &self,
        py: Python<'_>,
        body: impl FnOnce(&mut BoundedLoad, Arc<Snapshot>) -> R,
    ) -> PyResult<R> {
        guard::attached(py, &self.bounded, |bounded| {
            let bounded = bounded.as_mut().expect("only BoundedLoad asks for the lock to read");
            body(bounded, self.snapshot.load_full())
        })
    }

    fn is_bounded(&self) -> bool {
        matches!(self.snapshot.load().placement, Placement::Locked)
    }

    fn batch(&self, py: Python<'_>, keys: &Bound<'_, PyAny>) -> PyResult<(Vec<u32>, Arc<Snapshot>)> {
        let batch = Batch::read(keys, self.snapshot.load().wraps())?;
        let keys = batch.keys();
        let mut owners = vec![0; keys.len()];
        let (standing, snapshot) = self.stand(py)?;
        py.detach(|| owners_in_parallel(standing.ring(), keys, &mut owners));
        batch.recycle();
        if snapshot.nodes.is_empty() && !owners.is_empty() { Err(empty()) } else { Ok((owners, snapshot)) }
    }

    /// Swaps in the next snapshot: `edit` changes the placement, `nodes` makes the new list of objects from the
    /// old one and the position that `name` had.
    ///
    /// The next placement is computed while detached and without the lock, which nobody may hold for long: a fork
    /// would copy it locked. Whoever finds that somebody else was faster begins again.
    fn change(
        &self,
        py: Python<'_>,
        node: &Bound<'_, PyAny>,
        name: &str,
        edit: impl Fn(&mut dyn Ring) -> Result<(), RingError> + Sync + Send,
        nodes: impl Fn(&[Py<PyAny>], usize) -> Vec<Py<PyAny>>,
    ) -> PyResult<()> {
        loop {
            let (standing, current) = self.stand(py)?;
            let at = position(standing.ring(), name);
            let next = py.detach(|| match standing {
                Standing::Core(core) => {
                    let mut core = Core::clone(&core);
                    edit(core.ring_mut()).map(|()| Standing::Core(Arc::new(core)))
                }
                Standing::Bounded(mut bounded) => edit(&mut bounded).map(|()| Standing::Bounded(bounded)),
            });
            let (placement, mut bounded) = match next.map_err(|error| refused(py, &error, Some(node)))? {
                Standing::Core(core) => (Placement::Free(core), None),
                Standing::Bounded(bounded) => (Placement::Locked, Some(bounded)),
            };
            let nodes = nodes(&current.nodes, at.unwrap_or(usize::MAX));
            // Whichever of the two snapshots is left over is dropped here, attached, and not under the lock.
            let mut spare = Some(Arc::new(Snapshot { nodes, placement }));
            let swapped = guard::attached(py, &self.bounded, |held| {
                if !Arc::ptr_eq(&self.snapshot.load(), &current) {
                    return false;
                }
                if let (Some(held), Some(next)) = (held, &mut bounded) {
                    // Keys were placed and released meanwhile.
                    next.succeed(held, at.map(|at| at as u32));
                    std::mem::swap(held, next);
                }
                spare = spare.take().map(|next| self.snapshot.swap(next));
                true
            })?;
            if swapped {
                return Ok(());
            }
        }
    }

    /// A ring of its own with the same nodes, placed alike.
    fn duplicate(&self, py: Python<'_>) -> PyResult<Self> {
        let (standing, snapshot) = if self.is_bounded() {
            self.locked(py, |bounded, snapshot| (Some(bounded.clone()), snapshot))?
        } else {
            (None, self.snapshot.load_full())
        };
        let placement = match &snapshot.placement {
            Placement::Free(core) => Placement::Free(core.clone()),
            Placement::Locked => Placement::Locked,
        };
        // The collector visits each reference through its one owner, so the copy has references of its own.
        let copy = Snapshot { nodes: snapshot.objects(py), placement };
        Ok(Self { snapshot: ArcSwap::from_pointee(copy), bounded: Mutex::new(standing) })
    }

    /// The placement as it stands, and the snapshot that it belongs to. `BoundedLoad` is copied, so that a long
    /// look at it needs no lock.
    fn stand(&self, py: Python<'_>) -> PyResult<(Standing, Arc<Snapshot>)> {
        let snapshot = self.snapshot.load_full();
        if let Placement::Free(core) = &snapshot.placement {
            return Ok((Standing::Core(core.clone()), snapshot));
        }
        self.locked(py, |bounded, snapshot| (Standing::Bounded(bounded.clone()), snapshot))
    }
}

/// A placement at one moment, without objects.
pub(super) enum Standing {
    Core(Arc<Core>),
    Bounded(BoundedLoad),
}

impl Standing {
    pub(super) fn ring(&self) -> &dyn Ring {
        match self {
            Self::Core(core) => core.ring(),
            Self::Bounded(bounded) => bounded,
        }
    }

    fn moved(&self, other: &Self) -> f64 {
        let exact = match (self, other) {
            (Self::Core(mine), Self::Core(theirs)) => match (&**mine, &**theirs) {
                (Core::ConsistentHash(mine), Core::ConsistentHash(theirs)) => mine.moved(theirs),
                (Core::Maglev(mine), Core::Maglev(theirs)) => mine.moved(theirs),
                _ => None,
            },
            _ => None,
        };
        exact.unwrap_or_else(|| moved(self.ring(), other.ring()))
    }
}

impl Snapshot {
    /// Whether integers beyond 64 bits are taken modulo 2^64, not as text.
    fn wraps(&self) -> bool {
        matches!(&self.placement, Placement::Free(core) if matches!(**core, Core::Jump(_)))
    }

    fn node(&self, py: Python<'_>, owner: Option<u32>) -> PyResult<Py<PyAny>> {
        owner.map(|owner| self.nodes[owner as usize].clone_ref(py)).ok_or_else(empty)
    }

    fn list<'py>(&self, py: Python<'py>, owners: &[u32]) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, owners.iter().map(|&owner| &self.nodes[owner as usize]))
    }

    fn objects(&self, py: Python<'_>) -> Vec<Py<PyAny>> {
        self.nodes.iter().map(|node| node.clone_ref(py)).collect()
    }
}

impl Core {
    /// The same ring, for an owner that knows no kinds.
    pub(super) fn shared(&self) -> Arc<dyn Ring> {
        match self.clone() {
            Self::ConsistentHash(ring) => Arc::new(ring),
            Self::Ketama(ring) => Arc::new(ring),
            Self::Jump(ring) => Arc::new(ring),
            Self::Rendezvous(ring) => Arc::new(ring),
            Self::Maglev(ring) => Arc::new(ring),
            Self::Anchor(ring) => Arc::new(ring),
        }
    }

    fn ring(&self) -> &dyn Ring {
        match self {
            Self::ConsistentHash(ring) => ring,
            Self::Ketama(ring) => ring,
            Self::Jump(ring) => ring,
            Self::Rendezvous(ring) => ring,
            Self::Maglev(ring) => ring,
            Self::Anchor(ring) => ring,
        }
    }

    fn ring_mut(&mut self) -> &mut dyn Ring {
        match self {
            Self::ConsistentHash(ring) => ring,
            Self::Ketama(ring) => ring,
            Self::Jump(ring) => ring,
            Self::Rendezvous(ring) => ring,
            Self::Maglev(ring) => ring,
            Self::Anchor(ring) => ring,
        }
    }
}

enum Built {
    Core(Core),
    Bounded(BoundedLoad),
}

fn build(nodes: Vec<Node>, settings: &Settings, memory: Option<Memory>) -> Result<Built, RingError> {
    let circle = |nodes| {
        let hash = if settings.hash == "xxh3" { HashFunction::Xxh3 } else { HashFunction::Md5 };
        ConsistentHash::new(nodes, settings.replicas, hash)
    };
    let core = match settings.kind.as_str() {
        "ConsistentHash" => Core::ConsistentHash(circle(nodes)?),
        "Ketama" => {
            let variant = match settings.variant.as_str() {
                "ketama" => Variant::Ketama,
                "ketama_weighted" => Variant::KetamaWeighted,
                _ => Variant::Spy,
            };
            Core::Ketama(Ketama::new(nodes, variant)?)
        }
        "Jump" => Core::Jump(Jump::new(nodes)?),
        "Rendezvous" => Core::Rendezvous(Rendezvous::new(nodes)?),
        "Maglev" => Core::Maglev(Maglev::new(nodes, settings.table_size)?),
        "Anchor" => Core::Anchor(match memory {
            Some((removed, buckets, _)) => Anchor::restore(nodes, settings.capacity, &removed, buckets)?,
            None => Anchor::new(nodes, settings.capacity)?,
        }),
        "BoundedLoad" => {
            let ring = circle(nodes)?;
            return Ok(Built::Bounded(match memory {
                Some((_, _, loads)) => BoundedLoad::restore(ring, settings.epsilon, loads)?,
                None => BoundedLoad::new(ring, settings.epsilon)?,
            }));
        }
        _ => return Err(RingError::State { reason: "its kind is unknown" }),
    };
    Ok(Built::Core(core))
}

fn position(ring: &dyn Ring, name: &str) -> Option<usize> {
    ring.nodes().iter().position(|node| &*node.name == name)
}

fn owners_in_parallel(ring: &dyn Ring, keys: &[Key<'_>], owners: &mut [u32]) {
    let threads = if keys.len() < PARALLEL_MIN { 1 } else { threads() };
    let share = keys.len().div_ceil(threads).max(1);
    let mut shares = keys.chunks(share).zip(owners.chunks_mut(share));
    let first = shares.next();
    #[expect(
        clippy::disallowed_methods,
        reason = "bindings may spawn; these threads end before the call does, so a fork never meets them"
    )]
    std::thread::scope(|scope| {
        for (keys, owners) in shares {
            scope.spawn(move || ring.owners(keys, owners));
        }
        if let Some((keys, owners)) = first {
            ring.owners(keys, owners);
        }
    });
}

fn threads() -> usize {
    // Asking reads files where control groups limit the processors; nothing of Python runs in here.
    static THREADS: OnceLock<usize> = OnceLock::new();
    *THREADS.get_or_init(|| {
        std::thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS_MAX))
    })
}

/// The keys of a batch, apart from the objects that they were read from: while they are looked up, detached, other
/// threads may do with those whatever they like.
#[derive(Default)]
struct Batch<'py> {
    /// They borrow from `full`, `open` and `kept`, and are only handed out for as long as this lives.
    keys: Vec<Key<'static>>,
    /// Texts one after the other. No vector grows beyond its capacity, so no text ever moves.
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
    /// The objects of texts that are too long to be copied.
    kept: Vec<Bound<'py, PyAny>>,
    /// Empty vectors from an earlier batch.
    spare: Vec<Vec<u8>>,
}

/// Memory of the last batch, for the next one: to touch fresh pages costs more than to look the keys up.
static MEMORY: Mutex<Option<Memories>> = Mutex::new(None);

/// Keys and texts, all empty.
type Memories = (Vec<Key<'static>>, Vec<Vec<u8>>);

/// At most so many keys, and so many bytes of text, are kept room for.
const MEMORY_KEYS_MAX: usize = 1 << 18;
const MEMORY_TEXTS_MAX: usize = 1 << 23;

/// Longer texts are not copied but kept. Copying short ones is cheaper than counting references to them, which
/// means to visit each object once more when the batch ends.
const COPIED_MAX: usize = 256;
/// Room for this many bytes of text at once.
const TEXTS: usize = 1 << 16;

impl<'py> Batch<'py> {
    fn read(keys: &Bound<'py, PyAny>, wraps: bool) -> PyResult<Self> {
        let mut batch = Self::default();
        // Somebody else's batch is no reason to wait: then this one starts with nothing.
        if let Some((keys, spare)) = MEMORY.try_lock().ok().and_then(|mut memory| memory.take()) {
            (batch.keys, batch.spare) = (keys, spare);
        }
        if let Ok(list) = keys.cast::<PyList>() {
            batch.keys.reserve(list.len());
            list.iter().try_for_each(|item| batch.add(item, wraps))?;
            return Ok(batch);
        }
        if keys.is_instance_of::<PyString>() || keys.is_instance_of::<PyBytes>() {
            let kind = keys.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "keys is one {kind}, not several keys; for one key call get"
            )));
        }
        if let Ok(buffer) = PyUntypedBuffer::get(keys)
            && batch.read_array(keys.py(), &buffer)?
        {
            return Ok(batch);
        }
        // An array of objects, or of something that is no key: its elements know what they are.
        let items = if keys.hasattr("tolist")? { keys.call_method0("tolist")? } else { keys.clone() };
        for item in items.try_iter()? {
            batch.add(item?, wraps)?;
        }
        Ok(batch)
    }

    fn keys(&self) -> &[Key<'_>] {
        &self.keys
    }

    /// Leaves its memory to the next batch.
    fn recycle(self) {
        let Self { mut keys, full, open, mut spare, .. } = self;
        keys.clear();
        keys.shrink_to(MEMORY_KEYS_MAX);
        let used = full.into_iter().chain([open]).filter(|texts| texts.capacity() == TEXTS);
        spare.extend(used.map(|mut texts| {
            texts.clear();
            texts
        }));
        spare.truncate(MEMORY_TEXTS_MAX / TEXTS);
        if let Ok(mut memory) = MEMORY.try_lock() {
            *memory = Some((keys, spare));
        }
    }

    #[inline]
    fn add(&mut self, item: Bound<'py, PyAny>, wraps: bool) -> PyResult<()> {
        // Nearly every key is a short str. Its address and length stay in registers all the way: a `Key` that
        // travels through memory in halves and is read back whole costs as much as all the rest.
        if item.is_exact_instance_of::<PyString>() {
            let text = utf8(item.as_ptr(), item.py())?;
            if text.len() <= COPIED_MAX {
                let text = self.copied(text);
                self.keys.push(Key::Text(text));
                return Ok(());
            }
        }
        self.add_any(item, wraps)
    }

    fn add_any(&mut self, item: Bound<'py, PyAny>, wraps: bool) -> PyResult<()> {
        let mut digits = None;
        let key = match read_key(item.as_borrowed(), wraps, &mut digits)? {
            Key::Integer(integer) => Key::Integer(integer),
            Key::Text(text) if text.len() <= COPIED_MAX => Key::Text(self.copied(text)),
            Key::Text(text) => {
                // SAFETY: the bytes belong to `item` or to `digits`, which are kept for as long as the keys; an
                // object stays where it is when the reference to it moves.
                let text = unsafe { std::mem::transmute::<&[u8], &'static [u8]>(text) };
                self.kept.extend(digits);
                self.kept.push(item);
                Key::Text(text)
            }
        };
        self.keys.push(key);
        Ok(())
    }

    #[inline]
    fn copied(&mut self, text: &[u8]) -> &'static [u8] {
        if self.open.capacity() - self.open.len() < text.len() {
            let fits = |spare: &Vec<u8>| spare.capacity() >= text.len();
            let next =
                self.spare.pop().filter(fits).unwrap_or_else(|| Vec::with_capacity(TEXTS.max(text.len())));
            self.full.push(std::mem::replace(&mut self.open, next));
        }
        let start = self.open.len();
        self.open.extend_from_slice(text);
        // SAFETY: there was room, so the bytes stay where they are until this is dropped, keys and all.
        unsafe { std::mem::transmute::<&[u8], &'static [u8]>(&self.open[start..]) }
    }

    /// Reads integers and strings of an array; false when it holds anything else.
    fn read_array(&mut self, py: Python<'py>, buffer: &PyUntypedBuffer) -> PyResult<bool> {
        if buffer.dimensions() != 1 {
            let message = format!("keys has {} dimensions, not 1; call ravel on it", buffer.dimensions());
            return Err(PyTypeError::new_err(message));
        }
        let format = buffer.format();
        if format.to_bytes() == b"c" {
            return Ok(false); // single bytes, which are texts to Python
        }
        let foreign: &[u8] = if cfg!(target_endian = "little") { b">!" } else { b"<" };
        if format.to_bytes().first().is_some_and(|order| foreign.contains(order)) {
            return Ok(false);
        }
        let integers = match ElementType::from_format(format) {
            ElementType::SignedInteger { bytes: 1 } => widened::<i8>(py, buffer)?,
            ElementType::SignedInteger { bytes: 2 } => widened::<i16>(py, buffer)?,
            ElementType::SignedInteger { bytes: 4 } => widened::<i32>(py, buffer)?,
            ElementType::SignedInteger { bytes: 8 } => widened::<i64>(py, buffer)?,
            ElementType::UnsignedInteger { bytes: 1 } => widened::<u8>(py, buffer)?,
            ElementType::UnsignedInteger { bytes: 2 } => widened::<u16>(py, buffer)?,
            ElementType::UnsignedInteger { bytes: 4 } => widened::<u32>(py, buffer)?,
            // Those of 2^63 and above become Python's integers, which have room for them.
            ElementType::UnsignedInteger { bytes: 8 } => widened::<u64>(py, buffer)?,
            _ => return Ok(self.read_texts(buffer).is_some()),
        };
        Ok(integers.map(|keys| self.keys = keys).is_some())
    }

    /// Reads the texts of NumPy's `U` and `S` arrays; `None` for other arrays, and when a text has no UTF-8.
    fn read_texts(&mut self, buffer: &PyUntypedBuffer) -> Option<()> {
        let format = buffer.format().to_bytes();
        let (&unit, digits) = format.split_last()?;
        let digits = if let [b'<' | b'>' | b'=' | b'@', digits @ ..] = digits { digits } else { digits };
        if !digits.iter().all(u8::is_ascii_digit) || (unit != b'w' && unit != b's') {
            return None;
        }
        let (count, size) = (buffer.item_count(), buffer.item_size());
        let (mut keys, mut text) = (Vec::with_capacity(count), Vec::with_capacity(size));
        for i in 0..count {
            // SAFETY: `i` is below the one dimension's length, and an element has `size` bytes.
            let element = unsafe { std::slice::from_raw_parts(buffer.get_ptr(&[i]).cast::<u8>(), size) };
            text.clear();
            if unit == b's' {
                text.extend_from_slice(&element[..length_without_padding(element, 1)]);
            } else {
                let points = element[..length_without_padding(element, 4)].chunks_exact(4);
                let points = points.map(|point| u32::from_ne_bytes([point[0], point[1], point[2], point[3]]));
                if points.clone().fold(0, |all, point| all | point) < 0x80 {
                    text.extend(points.map(|point| point as u8));
                } else {
                    for point in points {
                        text.extend_from_slice(char::from_u32(point)?.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
            keys.push(Key::Text(self.copied(&text)));
        }
        self.keys = keys;
        Some(())
    }
}

/// The elements as keys; `None` when one does not fit into 64 bits.
fn widened<T: Element + TryInto<i64>>(
    py: Python<'_>,
    buffer: &PyUntypedBuffer,
) -> PyResult<Option<Vec<Key<'static>>>> {
    let elements = buffer.as_typed::<T>()?.to_vec(py)?;
    Ok(elements.into_iter().map(|element| element.try_into().ok().map(Key::Integer)).collect())
}

/// NumPy fills a text up with zeros, and reads none of them back.
fn length_without_padding(element: &[u8], unit: usize) -> usize {
    let last = element.chunks_exact(unit).rposition(|unit| unit.iter().any(|&byte| byte != 0));
    last.map_or(0, |last| (last + 1) * unit)
}

/// One key. It borrows from `item`, or from the text that is then put into `kept`.
#[inline]
pub(super) fn read_key<'a, 'py: 'a>(
    item: Borrowed<'a, 'py, PyAny>,
    wraps: bool,
    kept: &'a mut Option<Bound<'py, PyAny>>,
) -> PyResult<Key<'a>> {
    // A str proper is told by its type's address, without a call.
    if item.is_exact_instance_of::<PyString>() || item.is_instance_of::<PyString>() {
        return utf8(item.as_ptr(), item.py()).map(Key::Text);
    }
    if item.is_instance_of::<PyBytes>() {
        // SAFETY: it is a bytes object, which never changes and which `item` keeps alive for 'a.
        let bytes = unsafe {
            let length = ffi::PyBytes_Size(item.as_ptr()) as usize;
            std::slice::from_raw_parts(ffi::PyBytes_AsString(item.as_ptr()).cast::<u8>(), length)
        };
        return Ok(Key::Text(bytes));
    }
    if item.is_instance_of::<PyInt>() {
        return read_integer(&item, wraps, kept);
    }
    // SAFETY: any object may be asked whether it is an index.
    if unsafe { ffi::PyIndex_Check(item.as_ptr()) } == 0 {
        let kind = item.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a key is str, bytes or int, not {kind}")));
    }
    let index = item.py().import("operator")?.call_method1("index", (item,))?;
    read_integer(&index, wraps, kept)
}

fn read_integer<'a, 'py>(
    integer: &Bound<'py, PyAny>,
    wraps: bool,
    kept: &'a mut Option<Bound<'py, PyAny>>,
) -> PyResult<Key<'a>> {
    let mut overflow: c_int = 0;
    // SAFETY: the object is an int; this neither fails nor calls Python code.
    let small = unsafe { ffi::PyLong_AsLongLongAndOverflow(integer.as_ptr(), &raw mut overflow) };
    if overflow == 0 {
        return Ok(Key::Integer(small));
    }
    if wraps {
        let low: u64 = integer.call_method1("__and__", (u64::MAX,))?.extract()?;
        return Ok(Key::Integer(low as i64));
    }
    let digits = kept.insert(integer.py().get_type::<PyInt>().call_method1("__repr__", (integer,))?);
    utf8(digits.as_ptr(), digits.py()).map(Key::Text)
}

/// The UTF-8 of a str that lives for 'a.
#[inline]
fn utf8<'a>(text: *mut ffi::PyObject, py: Python<'_>) -> PyResult<&'a [u8]> {
    let mut length = 0;
    // SAFETY: `text` is a str; it caches its UTF-8 and never changes, so the bytes live as long as it does.
    unsafe {
        let start = ffi::PyUnicode_AsUTF8AndSize(text, &raw mut length);
        if start.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(std::slice::from_raw_parts(start.cast::<u8>(), length as usize))
    }
}

fn empty() -> PyErr {
    EmptyRingError::new_err("the ring has no nodes; add one with add_node")
}

fn without_numpy(py: Python<'_>, cause: PyErr) -> PyErr {
    if !cause.is_instance_of::<PyModuleNotFoundError>(py) {
        return cause;
    }
    let error = PyModuleNotFoundError::new_err(
        "get_many_indices answers with a NumPy array, and NumPy is not installed: pip install numpy, or call get_many",
    );
    error.set_cause(py, Some(cause));
    error
}

/// A core's refusal as the exception that says the same.
fn refused(py: Python<'_>, error: &RingError, node: Option<&Bound<'_, PyAny>>) -> PyErr {
    match (error, node) {
        (RingError::UnknownName { .. }, Some(node)) => {
            unknown(py, &error.to_string(), node).unwrap_or_else(|error| error)
        }
        (RingError::NotHeld { .. }, _) => RequestError::new_err(error.to_string()),
        _ => ConfigError::new_err(error.to_string()),
    }
}

fn unknown(py: Python<'_>, message: &str, node: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let fields = PyDict::new(py);
    fields.set_item("node", node)?;
    Ok(PyErr::from_value(py.get_type::<UnknownNodeError>().call((message,), Some(&fields))?))
}
