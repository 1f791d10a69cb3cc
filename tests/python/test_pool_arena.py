"""Large buffers of arguments and results: in shared memory, writable, never used again too early, never lost."""

import gc
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coterie import ConfigError, Pool, WorkerDiedError

KIB, MIB = 1 << 10, 1 << 20
kept: list[Any] = []


def keep(array: Any) -> bool:
    """Keeps the argument, and looks at all that were kept before."""
    kept.append(array)
    return all(bool((one == number).all()) for number, one in enumerate(kept))


def keep_and_die(array: Any) -> None:
    kept.append(array)
    os._exit(1)


def add_one(array: Any) -> Any:
    array += 1
    return array


def filled(number: int) -> Any:
    return np.full(MIB // 8, number)


def spoil_and_die(item: tuple[str, Any]) -> float:
    mark, array = item
    total = float(array.sum())
    if not Path(mark).exists():
        array[:] = 99
        Path(mark).touch()
        os._exit(1)
    return total


def look(thing: Any) -> Any:
    kept[:] = [thing]
    return bytes(thing[:4]), thing.readonly


def forget(_: object) -> None:
    kept.clear()
    gc.collect()


def used(pool: Pool) -> int:
    return pool.stats().memory_used


def wait_until_used(pool: Pool, expected: int) -> None:
    deadline = time.monotonic() + 10
    while used(pool) != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert used(pool) == expected


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_arguments_and_results_are_writable_arrays(method: str) -> None:
    array = np.arange(MIB, dtype=np.float64)
    with Pool(2, context=multiprocessing.get_context(method)) as pool:
        for result in pool.map(add_one, [array] * 4):
            assert (result == array + 1).all()
            result[:] = 0
    assert array[1] == 1


def test_a_read_only_array_arrives_writable_all_the_same() -> None:
    for length in (10, MIB):
        array = np.ones(length)
        array.flags.writeable = False
        with Pool(1) as pool:
            assert pool.apply(add_one, (array,)).sum() == 2 * length


def test_buffers_travel_inside_any_structure() -> None:
    thing = {
        "c": np.arange(MIB).reshape(1024, 1024),
        "fortran": np.asfortranarray(np.random.default_rng(1).normal(size=(300, 200))),
        "part": np.arange(MIB)[::3],
        "dates": np.array(["2026-11-28"] * 100_000, dtype="datetime64[D]"),
        "small": [np.ones(3), "text" * 100_000, b"bytes" * 100_000, bytearray(200_000)],
        "objects": np.array([{"a": 1}, None] * 20_000, dtype=object),
    }
    with Pool(2) as pool:
        found = pool.apply(pickle.loads, (pickle.dumps(1),)), pool.map(_same, [thing, thing])
    assert found[0] == 1
    for copy in found[1]:
        for name in ("c", "fortran", "part", "dates", "objects"):
            assert copy[name].dtype == thing[name].dtype  # type: ignore[attr-defined]
            assert (copy[name] == thing[name]).all()  # type: ignore[union-attr]
        assert copy["fortran"].flags.f_contiguous
        assert copy["small"][1:] == thing["small"][1:]  # type: ignore[index]


def _same(thing: Any) -> Any:
    return thing


@pytest.mark.parametrize("length", [32 * KIB - 1, 32 * KIB, 64 * KIB, MIB, 8 * MIB])
@pytest.mark.parametrize("kind", [bytes, bytearray, str])
def test_large_bytes_and_texts_come_as_themselves(kind: Any, length: int) -> None:
    thing = "x" * length if kind is str else kind(os.urandom(length))
    with Pool(1) as pool:
        found = pool.apply(_same, (thing,))
        assert type(found) is kind
        assert found == thing
        del found
        wait_until_used(pool, 0)


def test_a_worker_that_keeps_every_argument_finds_all_of_them_intact() -> None:
    # More than the arena holds: what finds no room is copied.
    with Pool(1, memory_limit=8 * MIB) as pool:
        for number in range(40):
            assert pool.apply(keep, (np.full(MIB // 8, number),))
        assert used(pool) == 8 * MIB


def test_a_worker_that_is_killed_gives_back_what_it_held() -> None:
    with Pool(1, memory_limit=8 * MIB) as pool:
        for number in range(4):
            assert pool.apply(keep, (np.full(MIB // 8, number),))
        assert used(pool) == 4 * MIB
        with pytest.raises(WorkerDiedError):
            pool.apply(keep_and_die, (np.zeros(MIB // 8),))
        wait_until_used(pool, 0)
        assert pool.map(keep, [np.full(MIB // 8, number) for number in range(8)]) == [True] * 8


def test_results_that_are_kept_stay_as_they_are_even_after_the_pool() -> None:
    with Pool(2, memory_limit=16 * MIB) as pool:
        results = pool.map(filled, range(30))  # not all of them find room
        more = pool.map(filled, range(30, 40))
    results += more
    for number, result in enumerate(results):
        assert (result == number).all()
        result[:] = 0


def test_results_that_are_dropped_make_room() -> None:
    with Pool(2, memory_limit=16 * MIB) as pool:
        for number, result in enumerate(pool.imap(filled, range(200))):
            assert result[-1] == number
        del result
        wait_until_used(pool, 0)


@pytest.mark.parametrize("limit", [0, 40 * KIB])
def test_without_room_buffers_are_copied(limit: int) -> None:
    array = np.arange(MIB)
    with Pool(2, memory_limit=limit) as pool:
        for result in pool.map(add_one, [array] * 3):
            assert (result == array + 1).all()
        assert pool.stats().memory_limit <= limit


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="memory_limit"):
        Pool(1, memory_limit=-1)


def test_an_item_that_is_tried_again_finds_its_argument_as_it_was(tmp_path: Path) -> None:
    array = np.ones(MIB)
    with Pool(1, retries=1) as pool:
        assert pool.map(spoil_and_die, [(str(tmp_path / "mark"), array)]) == [MIB]
        wait_until_used(pool, 0)


def test_a_job_that_nobody_waits_for_gives_back_its_arguments() -> None:
    with Pool(1, memory_limit=64 * MIB) as pool:
        results = pool.imap(_slow, [np.ones(MIB // 8)] * 40)
        next(results)
        del results
        wait_until_used(pool, 0)
        future = pool.map_async(filled, range(8))
        future.wait()
        assert used(pool) == 8 * MIB, "results wait for who fetches them"
        del future
        wait_until_used(pool, 0)


def _slow(array: Any) -> float:
    time.sleep(0.01)
    return float(array[0])


def test_a_child_of_a_fork_sees_results_as_they_were() -> None:
    with Pool(1, context=multiprocessing.get_context("fork"), memory_limit=8 * MIB) as pool:
        [first] = pool.map(filled, [1])
        [second] = pool.map(filled, [2])
        reading, writing = os.pipe()
        go_on, go = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.read(go_on, 1)
                second[:] = 5
                found = bool((first == 1).all()) and bool((second == 5).all())
                del first
                gc.collect()
                os.write(writing, b"y" if found else b"n")
                code = 0
            finally:
                os._exit(code)
        # The parent writes to one, drops the other, and fills the arena with something else.
        first[:] = 7
        assert first.sum() == 7 * first.size
        old, second = second, None
        del old
        more = pool.map(filled, range(10, 20))
        os.write(go, b"!")
        assert os.waitpid(child, 0)[1] == 0
        assert os.read(reading, 1) == b"y"
        assert all((array == number).all() for number, array in enumerate(more, 10))
        assert (first == 7).all()
    for descriptor in (reading, writing, go_on, go):
        os.close(descriptor)


def test_a_pool_of_a_worker_sees_its_arguments() -> None:
    with Pool(1) as pool:
        assert pool.apply(_nested, (np.full(MIB, 3),)) == [3, 3]


def _nested(array: Any) -> list[int]:
    with Pool(2, context=multiprocessing.get_context("fork")) as pool:
        return pool.map(lambda at: int(array[at]), [0, MIB - 1])


def test_what_is_shared_is_placed_once_and_read_only() -> None:
    array = np.arange(MIB, dtype=np.float64)
    with Pool(2) as pool:
        shared = pool.share(array)
        assert not shared.flags.writeable
        assert used(pool) == 8 * MIB
        # In arguments, in parts, and among what a function refers to.
        assert pool.map(lambda at: float(shared[at]), [1, 2, 3]) == [1, 2, 3]
        assert pool.starmap(_at, [({"x": [shared]}, 5), ({"x": [shared[100:]]}, 5)]) == [5, 105]
        assert used(pool) == 8 * MIB
        with pytest.raises(ValueError, match="read-only"):
            pool.apply(add_one, (shared,))
        back = pool.apply(_same, (shared,))
        back[0] = 1  # a copy
        assert shared[0] == 0


def _at(thing: Any, at: int) -> float:
    return float(thing["x"][0][at])


def test_shared_memory_is_free_when_the_last_handle_goes_wherever_it_is() -> None:
    with Pool(1) as pool:
        shared = pool.share(b"abcd" * MIB)
        assert pool.apply(look, (shared,)) == (b"abcd", True)
        del shared
        gc.collect()
        time.sleep(0.05)
        assert used(pool) == 4 * MIB, "the worker still looks at it"
        pool.apply(forget, (None,))
        wait_until_used(pool, 0)


def test_a_worker_that_dies_looks_at_nothing() -> None:
    with Pool(1) as pool:
        shared = pool.share(bytearray(b"abcd" * MIB))
        pool.apply(look, (shared,))
        del shared
        with pytest.raises(WorkerDiedError):
            pool.apply(os._exit, (1,))
        wait_until_used(pool, 0)


def test_what_is_no_buffer_cannot_be_shared() -> None:
    with Pool(1, memory_limit=MIB) as pool:
        with pytest.raises(TypeError, match="no buffer"):
            pool.share({"a": 1})
        with pytest.raises(MemoryError, match="memory_limit"):
            pool.share(bytes(2 * MIB))
        with pytest.raises(TypeError, match="memoryview"):
            pool.apply(len, (memoryview(b"not shared"),))


def test_threads_share_without_copies() -> None:
    with Pool(1, backend="thread") as pool:
        shared = pool.share(np.ones(3))
        assert not shared.flags.writeable
        assert pool.apply(_is, (shared, id(shared)))


def _is(thing: Any, identity: int) -> bool:
    return id(thing) == identity


def test_numpy_is_not_needed() -> None:
    code = """
import array, pickle, sys
sys.modules["numpy"] = None
from coterie import Pool

class Buffer:
    def __init__(self, data): self.data = data
    def __reduce_ex__(self, protocol): return Buffer, (pickle.PickleBuffer(self.data),)

def grow(buffer):
    view = memoryview(buffer.data)
    view[0] = 7
    return buffer

if __name__ == "__main__":
    with Pool(1) as pool:
        found = pool.apply(grow, (Buffer(bytearray(1 << 20)),))
        memoryview(found.data)[1] = 8
        assert bytes(found.data[:3]) == b"\\x07\\x08\\x00", bytes(found.data[:3])
        assert pool.stats().memory_used == 1 << 20
        print(pool.apply(bytes, (pool.share(b"abc"),)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "b'abc'\n"), done.stderr


def test_a_map_of_more_than_memory_holds_only_what_is_in_flight() -> None:
    array = np.ones(MIB // 8)
    with Pool(1, memory_limit=64 * MIB) as pool:
        before = peak()
        assert sum(pool.map(_slowly_first, [array] * 300)) == 300
        assert peak() - before < 150 * MIB, "300 MiB were sent"


def _slowly_first(array: Any) -> float:
    time.sleep(0.001)
    return float(array[0])


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def test_an_idle_pool_gives_its_memory_back() -> None:
    with Pool(1) as pool:
        results = pool.map(filled, range(32))
        assert sum(int(result.sum()) for result in results) == 31 * 16 * MIB // 8
        kept_result = results[5]
        del results
        assert shared_memory() > 16 * MIB
        deadline = time.monotonic() + 30
        # What is left: one result, the rings, and the words of a large arena.
        while shared_memory() > 8 * MIB and time.monotonic() < deadline:
            time.sleep(0.2)
        assert shared_memory() <= 8 * MIB
        assert (kept_result == 5).all()
        assert pool.map(filled, [3])[0][-1] == 3


def shared_memory() -> int:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssShmem"].split()[0]) * KIB
