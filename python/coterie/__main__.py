"""The command ``coterie``: also ``python -m coterie``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from coterie import __version__
from coterie._member import command
from coterie.exceptions import CoterieError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status is returned.

    Parameters
    ----------
    arguments : sequence of str, optional
        Those of the command line when not given.

    Returns
    -------
    int
        0 when all went well.

    Examples
    --------
    >>> from coterie.__main__ import main
    >>> try:
    ...     main(["--version"])
    ... except SystemExit as end:
    ...     end.code
    coterie ...
    0
    """
    parser = argparse.ArgumentParser(prog="coterie", description="Building blocks of distributed systems.")
    parser.add_argument("--version", action="version", version=f"coterie {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="a tour of what there is, on real work")
    demo.add_argument("--plain", action="store_true", help="aligned text, even on a terminal")
    demo.set_defaults(run=_run_demo)
    command.add(commands)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except CoterieError as error:
        print(f"coterie {chosen.command}: {error}", file=sys.stderr)
        return 1
    return status


def _run_demo(chosen: argparse.Namespace) -> int:
    # Here and not above: a tour imports much that other commands do without.
    from coterie import _demo  # noqa: PLC0415 - see the line above

    _demo.run(plain=chosen.plain)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
