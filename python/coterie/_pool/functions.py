"""How functions and arguments travel to workers, and results back.

What a worker can import goes by its name; what it cannot (a lambda, a closure, a notebook's cell, a function of
``__main__`` that the worker's ``__main__`` lacks) goes by its value, through cloudpickle.
"""

from __future__ import annotations

import contextvars
import functools
import io
import os
import pickle
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from types import BuiltinFunctionType, FunctionType
from typing import Any

loads = pickle.loads

# A pickle names the modules of what goes by name; further in than this nobody looks for one.
_LOOK = 1 << 16


class Main:
    """What workers know of this process's ``__main__``."""

    def knows(self, thing: Any) -> bool:  # noqa: ARG002 - this one knows nothing
        """Whether workers find `thing`, a function or class of ``__main__``, by its name."""
        return False


class InheritedMain(Main):
    """Workers were forked: they know what was there at that moment."""

    def __init__(self) -> None:
        main = sys.modules.get("__main__")
        kinds = (FunctionType, type)
        self._things = {name: thing for name, thing in vars(main).items() if isinstance(thing, kinds)}

    def knows(self, thing: Any) -> bool:
        root, *path = thing.__qualname__.split(".")
        found = self._things.get(root)
        for name in path:
            found = getattr(found, name, None)
        return found is thing


class ImportedMain(Main):
    """Workers import the script anew, without what stands under its ``if __name__ == "__main__":``."""

    def knows(self, thing: Any) -> bool:
        main = sys.modules.get("__main__")
        file = getattr(main, "__file__", None)
        if getattr(main, "__spec__", None) is None and (file is None or not os.path.exists(file)):  # noqa: PTH110 - a str
            return False
        found: Any = main
        for name in thing.__qualname__.split("."):
            found = getattr(found, name, None)
        if found is not thing:
            return False
        code = getattr(thing, "__code__", None)
        if code is None or "." in thing.__qualname__:
            return True
        import linecache  # noqa: PLC0415 - few need it

        line = linecache.getline(code.co_filename, code.co_firstlineno, vars(main))
        return not line[:1].isspace()


@functools.cache
def _pickler() -> Any:
    """The class of what pickles by value; made when it is first needed, for cloudpickle takes longer than a fork."""
    from collections import ChainMap  # noqa: PLC0415
    from types import CodeType  # noqa: PLC0415

    import cloudpickle  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

    def reduce_code(code: CodeType) -> tuple[Any, ...]:
        """As cloudpickle does it, but with the name of the source's file: a traceback shows the line."""
        rebuild, fields = cloudpickle.CloudPickler.dispatch_table[CodeType](code)
        return rebuild, tuple(code.co_filename if field == "<dynamic-code>" else field for field in fields)

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc,unused-ignore]
        """By value what the other side cannot import; with the reductions that multiprocessing and its users registered."""

        def __init__(self, file: io.BytesIO, main: Main, *, of_main: bool) -> None:
            self._main, self._of_main = main, of_main
            extra: dict[Any, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
            # Before the pickler is made, for it looks at its table only then.
            self.dispatch_table = ChainMap(
                {CodeType: reduce_code}, extra, cloudpickle.CloudPickler.dispatch_table
            )
            super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, (FunctionType, type)):
                if obj.__module__ == "__main__":
                    if self._main.knows(obj):
                        return NotImplemented
                elif (
                    self._of_main and obj.__module__ != "builtins"
                ):  # where types live that have no name there
                    return NotImplemented
            return super().reducer_override(obj)

    return Pickler


def dump_by_value(thing: Any, main: Main, *, of_main: bool = False) -> bytes:
    """The pickle of anything that cloudpickle can take; with `of_main` only what ``__main__`` defines goes by value."""
    file = io.BytesIO()
    _pickler()(file, main, of_main=of_main).dump(thing)
    return file.getvalue()


class Dumper:
    """Pickles arguments for workers that know a certain ``__main__``."""

    def __init__(self, main: Main) -> None:
        self._main = main

    def __call__(self, thing: Any) -> Any:
        """The pickle of `thing`; what `pickle` cannot take, cloudpickle may."""
        try:
            made = ForkingPickler.dumps(thing)
        except Exception:
            try:
                return dump_by_value(thing, self._main)
            except Exception:
                if isinstance(thing, FunctionType):
                    raise  # it names what the function holds; the other says that it is no module's
            raise
        if b"__main__" in bytes(made[:_LOOK]):
            # Something of ours goes by name: a class, perhaps one that workers do not know.
            try:
                return dump_by_value(thing, self._main)
            except Exception:  # noqa: BLE001 - a lock among a function's globals, for one; by name it may work
                return made
        return made


class InContext:
    """A function that sees the context variables of whoever asked for the call; each call has a copy of its own."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function, self._context = function, contextvars.copy_context()

    def __call__(self, /, *args: Any, **kwds: Any) -> Any:
        return self._context.copy().run(self._function, *args, **kwds)


def is_importable(function: Any, main: Main) -> bool:
    """Whether every worker finds `function` by its name, so that it is always the same."""
    if not isinstance(function, (FunctionType, BuiltinFunctionType, type)):
        return False
    if function.__module__ == "__main__":
        return isinstance(function, (FunctionType, type)) and main.knows(function)
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is function
