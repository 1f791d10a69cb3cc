"""Documents that run: docstrings, of compiled classes too, and the code blocks of the pages."""

from __future__ import annotations

import doctest
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from types import CodeType

import pytest

import coterie

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def doctests() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = ["coterie", *(module.name for module in pkgutil.walk_packages(coterie.__path__, "coterie."))]
    found = [test for name in names for test in finder.find(import_module(name), name)]
    return [test for test in found if test.examples]


def blocks() -> list[tuple[str, CodeType]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, match.start()) + 1
            # Blank lines first, so that a traceback names the line of the page.
            code = compile("\n" * line + match[1], str(page), "exec", dont_inherit=True)
            found.append((f"{page.relative_to(ROOT)}:{line}", code))
    return found


@pytest.mark.usefixtures("nothing_is_saved")
@pytest.mark.parametrize("example", doctests(), ids=lambda example: example.name)
def test_docstring(example: doctest.DocTest) -> None:
    said: list[str] = []
    results = doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=said.append)
    assert results.failed == 0, "".join(said)
    assert results.attempted > 0


@pytest.mark.parametrize(
    ("place", "code"), blocks(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_page(place: str, code: CodeType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each block stands alone, as a reader would copy it, and leaves nothing behind.
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": place})


def test_the_guard_sees_examples_and_blocks() -> None:
    assert len(doctests()) >= 7
    assert sum(place.startswith("README.md") for place, _ in blocks()) >= 3
