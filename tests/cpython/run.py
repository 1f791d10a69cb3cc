"""Run CPython's own tests of pools and executors against this package's.

Each test has a process of its own, and a deadline: a hang costs one test. What is not as in CPython stands in
`exceptions.toml`, with the reason; the run fails if any other test fails, and if one of those passes.

The tests are those of the interpreter that runs this. One that lacks ``test.test_concurrent_futures`` (many builds
leave it out) is lent Debian's copy of the same version, from a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
MODES = ("fork", "spawn", "forkserver", "thread")
# Seconds for a test that is known not to end.
ENDLESS = 20.0
# Fewer tests than this in a mode mean that the suite has lost sight of some.
TESTS_MIN = {"fork": 40, "spawn": 40, "forkserver": 40, "thread": 20}


class Listed(NamedTuple):
    """What `exceptions.toml` says of a test."""

    why: str
    always: bool = True
    ends: bool = True

    @classmethod
    def read(cls, told: str | dict[str, Any]) -> Listed:
        return cls(told) if isinstance(told, str) else cls(**told)


class Verdict(NamedTuple):
    """What became of one test."""

    name: str
    word: str  # passed, skipped, failed, hung
    seconds: float
    said: str


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--modes", default=",".join(MODES), help="start methods, and thread (default: %(default)s)"
    )
    parser.add_argument("--only", default="", help="a regular expression: run only tests whose name it finds")
    parser.add_argument("--jobs", type=int, default=2, help="how many tests at once (default: %(default)s)")
    parser.add_argument(
        "--deadline", type=float, default=120, help="seconds for each test (default: %(default)s)"
    )
    parser.add_argument("--verbose", action="store_true", help="a line for each test")
    options = parser.parse_args()
    surprises = 0
    with lent_tests() as path:
        for mode in options.modes.split(","):
            surprises += run_mode(mode, path, options)
    print(
        "as expected" if not surprises else f"{surprises} tests are not as {HERE.name}/exceptions.toml says"
    )
    return surprises != 0


def run_mode(mode: str, path: str, options: argparse.Namespace) -> int:
    environment = dict(os.environ, COTERIE_CPYTHON_MODE=mode, PYTHONPATH=path)
    names = test_names(environment)
    if len(names) < TESTS_MIN[mode]:
        sys.exit(f"{mode}: only {len(names)} tests were found: {names}")
    listed = exceptions(mode)
    chosen = [name for name in names if re.search(options.only, name)]

    def run(name: str) -> Verdict:
        ends = name not in listed or listed[name].ends
        return run_test(name, environment, options.deadline if ends else ENDLESS)

    counted: Counter[str] = Counter()
    surprises = 0
    with ThreadPoolExecutor(options.jobs) as threads:
        for verdict in threads.map(run, chosen):
            word, surprising = judge(verdict, listed.get(verdict.name))
            counted[word] += 1
            surprises += surprising
            if surprising or options.verbose:
                print(f"  {mode} {verdict.name}: {word} in {verdict.seconds:.1f} s", flush=True)
            if surprising and verdict.said:
                print("    | " + "\n    | ".join(verdict.said.splitlines()[-25:]), flush=True)
    forgotten = sorted(set(listed) - set(names))
    if forgotten and has_futures(names):
        print(f"  {mode}: listed, but this Python has no such test: {', '.join(forgotten)}")
    counts = ", ".join(f"{count} {word}" for word, count in sorted(counted.items()))
    note = "" if has_futures(names) else " (the executor's are not there)"
    print(f"{mode}: {len(chosen)} tests: {counts}{note}", flush=True)
    return surprises


def judge(verdict: Verdict, listed: Listed | None) -> tuple[str, bool]:
    """The word to count, and whether it is a surprise."""
    word = verdict.word
    if listed is None:
        return word, word not in ("passed", "skipped")
    if word in ("passed", "skipped"):
        return (word, False) if not listed.always else (f"{word} though listed", True)
    if word == "hung" and listed.ends:
        return "hung though listed", True
    return "listed", False


def exceptions(mode: str) -> dict[str, Listed]:
    """Tests that are not to pass in this mode, and why."""
    with (HERE / "exceptions.toml").open("rb") as file:
        tables: dict[str, dict[str, Any]] = tomllib.load(file)
    unknown = set(tables) - {"process", *MODES}
    if unknown:
        sys.exit(f"exceptions.toml: no such mode: {unknown}")
    shared = {} if mode == "thread" else tables.get("process", {})
    return {name: Listed.read(told) for name, told in {**shared, **tables.get(mode, {})}.items()}


def has_futures(names: list[str]) -> bool:
    return any(name.startswith(("AsCompleted", "ThreadPoolAsCompleted")) for name in names)


def test_names(environment: dict[str, str]) -> list[str]:
    program = """
import suite, unittest
def names(tests):
    for test in tests:
        yield from names(test) if isinstance(test, unittest.TestSuite) else [test.id()]
print(*names(unittest.defaultTestLoader.loadTestsFromModule(suite)), sep="\\n")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return sorted({line.removeprefix("suite.") for line in done.stdout.splitlines()})


def run_test(name: str, environment: dict[str, str], deadline: float) -> Verdict:
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "unittest", f"suite.{name}"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=deadline)
        word = result(said, process.returncode)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        # Whoever it left may hold the pipe: what was said until now is enough.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=5)
        word, said = "hung", ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return Verdict(name, word, time.monotonic() - began, said if word == "failed" else "")


def result(said: str, code: int) -> str:
    last = [line for line in said.splitlines() if re.match(r"(OK|FAILED|NO TESTS)", line)]
    if not last or not last[-1].startswith("OK"):
        return "skipped" if "NO TESTS RAN (skipped=" in said else "failed"
    if code:
        return "failed"
    return "skipped" if "skipped" in last[-1] else "passed"


@contextlib.contextmanager
def lent_tests() -> Iterator[str]:
    """The path on which the tests' interpreters look for modules: ours, and what their own ``test`` package lacks."""
    if importlib.util.find_spec("test.test_concurrent_futures") is not None:
        yield str(HERE)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = fetch(folder)
        if found is not None:
            (folder / "sitecustomize.py").write_text(
                f"import test\n\ntest.__path__.append({str(found.parent)!r})\n"
            )
        yield os.pathsep.join([str(folder), str(HERE)])


def fetch(folder: Path) -> Path | None:
    """Debian's copy of the missing module, if this is a machine that can get it."""
    package = f"libpython3.{sys.version_info.minor}-testsuite"
    try:
        for command in (["apt-get", "download", package], ["dpkg", "-x", f"{package}.deb", "."]):
            subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=300)
            for archive in folder.glob(f"{package}_*.deb"):
                archive.rename(folder / f"{package}.deb")
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the executor's tests are left out: {package} cannot be had ({error})")
        return None
    return next(folder.glob("usr/lib/python3*/test/test_concurrent_futures*"), None)


if __name__ == "__main__":
    sys.exit(main())
