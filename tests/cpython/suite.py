"""CPython's own test classes, with this package's pool and executor where CPython's stood.

`run.py` names the mode in ``COTERIE_CPYTHON_MODE`` (fork, spawn, forkserver or thread). It is read from the environment
because workers that are spawned import this file too, and must find the same classes.
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib
import importlib.util
import multiprocessing
import os
import re
import unittest
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import test._test_multiprocessing as pools
import test.support
import test.test_multiprocessing_main_handling as mains
from substitutes import ProcessPoolExecutor, ThreadPoolExecutor
from test.support import script_helper

import coterie

MODE = os.environ["COTERIE_CPYTHON_MODE"]
THREADS = MODE == "thread"
# Where 3.12 and later have a package, these are its parts that have something to say of an executor.
PARTS = ("init", "shutdown", "wait", "as_completed", "thread_pool", "process_pool", "deadlock")


def setUpModule() -> None:
    if not THREADS:
        multiprocessing.set_start_method(MODE, force=True)


def tearDownModule() -> None:
    test.support.gc_collect()


def add(name: str, *bases: type, **members: Any) -> None:
    """A test class of this module; unittest finds those of the namespace, and pickles find them by name."""
    globals()[name] = type(name, bases, {"__module__": __name__, "__qualname__": name, **members})


def rewritten(source: Any) -> Any:
    """A script of a test, or whatever else a test hands to an interpreter, with our names for CPython's."""
    if not isinstance(source, str):
        return source
    source = source.replace(
        "from multiprocessing import Pool, set_start_method",
        "from multiprocessing import set_start_method\nfrom coterie import Pool",
    )
    source = source.replace("from multiprocessing import Pool", "from coterie import Pool")
    return re.sub(r"from concurrent\.futures import (\w+)", r"from substitutes import \1", source)


def run_script(*arguments: Any, **environment: Any) -> Any:
    # Isolated, an interpreter would find neither our names nor a test module that was lent to it.
    environment.setdefault("PYTHONPATH", os.environ["PYTHONPATH"])
    return assert_python_ok(*map(rewritten, arguments), **environment)


assert_python_ok = script_helper.assert_python_ok
script_helper.assert_python_ok = run_script


# Pools


class Substituted:
    """For classes that say ``multiprocessing.Pool``."""

    @classmethod
    def setUpClass(cls) -> None:
        cls._saved = multiprocessing.Pool
        multiprocessing.Pool = coterie.Pool
        super().setUpClass()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        multiprocessing.Pool = cls._saved


class PoolInProcess(Substituted, unittest.TestCase):
    """A pool in a child, as `_test_multiprocessing` has it in a class of which the rest is not about pools."""

    def test_pool_in_process(self) -> None:
        process = multiprocessing.Process(target=pools.pool_in_process)
        process.start()
        process.join()
        assert process.exitcode == 0


if THREADS:
    del PoolInProcess
    # `test_terminate` wants tasks that take for ever ended. A thread that runs cannot be ended, so that the test, which
    # passes with CPython's pool when that hands out nothing in time, has shorter ones for threads since 3.13.
    test.support.LONG_TIMEOUT = 1.0
    thread_pool = functools.partial(coterie.Pool, backend="thread")
    mixin = type("OnThreads", (pools.ThreadsMixin,), {"Pool": staticmethod(thread_pool)})
    add("TestPool", pools._TestPool, mixin, unittest.TestCase)
else:
    mixin = type("OnProcesses", (pools.ProcessesMixin,), {"Pool": staticmethod(coterie.Pool)})
    add("TestPool", pools._TestPool, mixin, unittest.TestCase)
    add("TestPoolWorkerErrors", Substituted, pools._TestPoolWorkerErrors, mixin, unittest.TestCase)
    add("TestPoolWorkerLifetime", Substituted, pools._TestPoolWorkerLifetime, mixin, unittest.TestCase)
    # The other test of the class is about managers.
    add("TestInitializers", Substituted, pools.TestInitializers, test_manager_initializer=None)
    # A process of a test that makes a pool; a fork inherits what the class put there.
    if multiprocessing.parent_process() is not None and MODE != "fork":
        multiprocessing.Pool = coterie.Pool

# How a program is found: scripts, folders, zip files, packages, all of which use a pool.


def with_our_pool(module: ModuleType) -> None:
    ours = {
        source: rewritten(source)
        for source in vars(module).values()
        if isinstance(source, str) and "Pool" in source
    }
    for name, value in list(vars(module).items()):
        if isinstance(value, str) and value in ours:
            setattr(module, name, ours[value])
    for function in (module._make_test_script, module._make_test_zip_pkg):
        function.__defaults__ = tuple(ours.get(default, default) for default in function.__defaults__)


if not THREADS:
    with_our_pool(mains)
    add(
        "MainHandling",
        mains.MultiProcessingCmdLineMixin,
        unittest.TestCase,
        start_method=MODE,
        main_in_children_source=mains.test_source
        if MODE == "fork"
        else mains.test_source_main_skipped_in_children,
    )

# Executors


def futures_modules() -> Iterator[ModuleType]:
    """What there is of ``test.test_concurrent_futures``: `run.py` has seen to it if it could."""
    name = "test.test_concurrent_futures"
    if importlib.util.find_spec(name) is None:
        return
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        for part in PARTS:
            yield importlib.import_module(f"{name}.test_{part}")
    else:
        yield module


def add_executors(module: ModuleType) -> None:
    ours = {real_processes: ProcessPoolExecutor, real_threads: ThreadPoolExecutor}
    for name, case in list(vars(module).items()):
        if not isinstance(case, type) or not issubclass(case, unittest.TestCase):
            continue
        executor = getattr(case, "executor_type", None)
        if executor in ours and getattr(case, "ctx", "thread") == MODE:
            # By a name without the method: the mode tells it.
            name = re.sub(r"^ProcessPool(Fork|Spawn|Forkserver)(?=[A-Z])", "", name)  # noqa: PLW2901
            add(name, case, executor_type=ours[executor])
    if hasattr(module, "assert_python_ok"):
        module.assert_python_ok = run_script


real_processes, real_threads = concurrent.futures.ProcessPoolExecutor, concurrent.futures.ThreadPoolExecutor
for module in futures_modules():
    add_executors(module)
# Some tests name the class itself.
concurrent.futures.ProcessPoolExecutor, concurrent.futures.ThreadPoolExecutor = (
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
