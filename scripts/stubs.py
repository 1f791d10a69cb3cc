"""Compare python/coterie/_coterie.pyi with the compiled module; with --write, write it anew."""

import argparse
import difflib
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

STUB = Path("python/coterie/_coterie.pyi")


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
        text = stub.read_text().rstrip() + "\n"
    # An empty stub would silently strip every type.
    if "def " not in text or "__getattr__" in text:
        sys.exit(f"the generated stub is not complete:\n{text}")
    return text


if __name__ == "__main__":
    sys.exit(main())
