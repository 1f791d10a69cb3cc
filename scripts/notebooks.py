"""Run the notebooks and compare what they say with what is committed; with --write, keep it.

Text must be equal to the letter, and so must what we draw ourselves: SVG, and HTML around it. Other pictures must be
where they were: their bytes depend on the version of the library that drew them.
"""

import argparse
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path("notebooks")


def main() -> str | None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    paths = sorted(FOLDER.glob("*.ipynb"))
    if not paths:
        return f"no notebooks in {FOLDER}/: this looks in the wrong place"
    changed = []
    for path in paths:
        committed = nbformat.read(path, as_version=4)
        executed = execute(path)
        if write:
            nbformat.write(executed, path)
        elif told(committed) != told(executed):
            changed += [f"{path}: {line}" for line in differences(told(committed), told(executed))]
        print(f"{path}: {len(executed.cells)} cells")
    print(f"notebooks: {len(paths)} run")
    if changed:
        return "\n".join(
            [*changed, "another story than the committed one: look, then `make write-notebooks`"]
        )
    return None


def execute(path: Path) -> Any:
    notebook = nbformat.read(path, as_version=4)
    # How a stream is cut into messages depends on the moment, and says nothing.
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    ).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # time stamps
    notebook.metadata = {
        "kernelspec": notebook.metadata.get("kernelspec", {}),
        "language_info": {"name": "python"},
    }
    return notebook


def told(notebook: Any) -> list[list[Any]]:
    return [[spoken(output) for output in cell.get("outputs", [])] for cell in notebook.cells]


def spoken(output: Any) -> Any:
    if output.output_type == "stream":
        return output.name, output.text
    if output.output_type == "error":
        return output.ename, output.evalue
    drawn = {
        kind: digest(output.data[kind]) for kind in ("image/svg+xml", "text/html") if kind in output.data
    }
    pictures = sorted(kind for kind in output.data if kind.startswith("image/"))
    return drawn or pictures or output.data.get("text/plain")


def digest(text: str) -> str:
    """A long text in few letters, so that a difference can be told."""
    return sha256(text.encode()).hexdigest()[:16]


def differences(before: list[list[Any]], after: list[list[Any]]) -> list[str]:
    pairs = enumerate(zip(before, after, strict=True))
    return [f"cell {number}: {one!r} became {other!r}" for number, (one, other) in pairs if one != other]


if __name__ == "__main__":
    sys.exit(main())
