"""Compare python/coterie/_coterie.pyi with the compiled module; with --write, write it anew.

PyO3 says what it accepts; some of that is said here in the words of our Python layer, which inherits from it.
"""

import argparse
import difflib
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

STUB = Path("python/coterie/_coterie.pyi")

WORDS = [
    # A subclass's `__new__` returns the subclass.
    (r"(def __new__\(.*\)) -> \w+:", r"\1 -> Self:"),
    # The Python layer promises less, and an override may not promise less than its base.
    (r"SupportsFloat \| SupportsIndex", "float"),
    (r"SupportsIndex", "int"),
    # Strict checkers want to be told of what.
    (r"\blist\b(?=[:,) ])", "list[Any]"),
    (r"\bdict\b(?=[:,) ])", "dict[Any, Any]"),
    (r"\btuple\b(?=[:,) ])", "tuple[Any, ...]"),
    (r"^from typing import .*$", "from typing import Any, Self, final"),
]


def main() -> str | None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    committed = STUB.read_text() if STUB.exists() else ""
    generated = generate()
    if parser.parse_args().write:
        STUB.write_text(generated)
        return None
    difference = difflib.unified_diff(
        committed.splitlines(), generated.splitlines(), str(STUB), "generated", lineterm=""
    )
    text = "\n".join(difference)
    if not text:
        print(f"{STUB}: {len(generated.splitlines())} lines, as generated")
    return f"{text}\n{STUB} is behind the compiled module: `make stubs`" if text else None


def generate() -> str:
    scripts = Path(sysconfig.get_path("scripts"))
    # The profile of the wheel, so that nothing is compiled for this alone.
    profile = ["--locked", "--profile", "release"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                scripts / "maturin",
                "generate-stubs",
                "--quiet",
                *profile,
                "--interpreter",
                sys.executable,
                "--out",
                folder,
            ],
            check=True,
        )
        (stub,) = Path(folder).rglob("_coterie*.pyi")
        text = in_our_words(stub.read_text().rstrip() + "\n")
    # An empty stub would silently strip every type.
    if "def " not in text or "__getattr__" in text:
        sys.exit(f"the generated stub is not complete:\n{text}")
    return text


def in_our_words(text: str) -> str:
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        if re.match(r"from typing import |\s*def |\s*\w+: ", line):  # and no sentence of a docstring
            for pattern, words in WORDS:
                line = re.sub(pattern, words, line)  # noqa: PLW2901 - one word after the other
            lines[number] = line
    return "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
