"""How functions and arguments travel to workers, and results back.

What a worker can import goes by its name; what it cannot (a lambda, a closure, a notebook's cell, a function of
``__main__`` that the worker's ``__main__`` lacks) goes by its value, through cloudpickle.
"""

from __future__ import annotations

import contextlib
import contextvars
import copyreg
import functools
import io
import os
import pickle
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from types import BuiltinFunctionType, FunctionType
from typing import Any

from coterie._coterie import PoolCore

loads = pickle.loads
# A buffer that is smaller is copied faster than it is placed in shared memory.
_THRESHOLD = PoolCore.threshold()

# Takes a buffer out of a pickle, or says that it stays in.
Take = Callable[[pickle.PickleBuffer], bool]
# How objects of a type are pickled.
Reducers = dict[type, Callable[[Any], Any]]

# How an item is passed: as the one argument, as all positional arguments, as a pair of arguments and keywords.
ONE, STAR, CALL = range(3)
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

        def __init__(
            self,
            file: io.BytesIO,
            main: Main,
            *,
            of_main: bool,
            take: Take | None = None,
            reducers: Reducers | None = None,
        ) -> None:
            self._main, self._of_main = main, of_main
            extra: dict[Any, Any] = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
            # Before the pickler is made, for it looks at its table only then.
            self.dispatch_table = ChainMap(
                {CodeType: reduce_code}, extra, reducers or {}, cloudpickle.CloudPickler.dispatch_table
            )
            super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL, buffer_callback=take)

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


def dump_by_value(
    thing: Any,
    main: Main,
    *,
    of_main: bool = False,
    take: Take | None = None,
    reducers: Reducers | None = None,
) -> bytes:
    """The pickle of anything that cloudpickle can take; with `of_main` only what ``__main__`` defines goes by value."""
    file = io.BytesIO()
    _pickler()(file, main, of_main=of_main, take=take, reducers=reducers).dump(thing)
    return file.getvalue()


class _Pickler(ForkingPickler):
    """By name, as multiprocessing does it; large buffers are left out."""

    def __init__(self, file: io.BytesIO, take: Take, reducers: Reducers) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL, True, take)
        extra: Reducers = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
        self.dispatch_table = {**copyreg.dispatch_table, **reducers, **extra}


class LeftOut:
    """Takes large buffers out of a pickle."""

    __slots__ = ("_wanted", "views")

    def __init__(self, wanted: Callable[[memoryview], bool]) -> None:
        self._wanted = wanted
        self.views: list[memoryview] = []

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether it stays in."""
        try:
            view = buffer.raw()
        except BufferError:  # not in one piece
            return True
        if not self._wanted(view):
            return True
        self.views.append(view)
        return False


def is_large(view: memoryview) -> bool:
    """Whether a buffer travels by itself."""
    return view.nbytes >= _THRESHOLD


class Dumper:
    """Pickles what goes to the other side, which knows a certain ``__main__``.

    Large buffers are left out, so that they are copied once. What they belong to is writable when it arrives, even an
    array that is not so here; but for what `Pool.share` made, which is everybody's.
    """

    def __init__(self, main: Main, is_shared: Callable[[memoryview], bool] | None = None) -> None:
        self._main, self._is_shared = main, is_shared
        self._reducers: Reducers = {memoryview: self._reduce_view}

    def __call__(self, thing: Any) -> Any:
        """The pickle of `thing`, or that and its large buffers. What `pickle` cannot take, cloudpickle may."""
        left_out = LeftOut(is_large)
        try:
            made: Any = self._by_name(thing, left_out)
        except Exception:
            left_out.views.clear()
            try:
                made = self._by_value(thing, left_out)
            except Exception:
                if isinstance(thing, FunctionType):
                    raise  # it names what the function holds; the other says that it is no module's
                made = None
            if made is None:
                raise
        else:
            if b"__main__" in bytes(made[:_LOOK]):
                # Something of ours goes by name: a class, perhaps one that workers do not know.
                again = LeftOut(is_large)
                with contextlib.suppress(
                    Exception
                ):  # a lock among a function's globals, for one; by name it may work
                    made, left_out = self._by_value(thing, again), again
        return (made, left_out.views) if left_out.views else made

    def function(self, function: Any) -> tuple[bytes, list[memoryview]]:
        """The pickle of a function, and what it holds of what is shared."""
        left_out = LeftOut(lambda view: self._is_shared is not None and self._is_shared(view))
        try:
            made = bytes(self._by_name(function, left_out))
        except Exception:  # noqa: BLE001 - cloudpickle's error says what the function holds
            made = b"__main__"
        if b"__main__" in made[:_LOOK]:
            left_out.views.clear()
            made = self._by_value(function, left_out)
        return made, left_out.views

    def parted(self, thing: Any) -> tuple[Any, list[memoryview]]:
        """The pickle of `thing`, and all buffers that can be left out."""
        left_out = LeftOut(lambda view: view.nbytes > 0)
        return self._by_name(thing, left_out), left_out.views

    def _by_name(self, thing: Any, left_out: LeftOut) -> memoryview:
        file = io.BytesIO()
        _Pickler(file, left_out, self._known()).dump(thing)
        return file.getbuffer()

    def _by_value(self, thing: Any, left_out: LeftOut, *, of_main: bool = False) -> bytes:
        return dump_by_value(thing, self._main, of_main=of_main, take=left_out, reducers=self._known())

    def _known(self) -> Reducers:
        """Reductions of ours; NumPy's arrays are known once there may be one."""
        if len(self._reducers) == 1:
            array = getattr(sys.modules.get("numpy"), "ndarray", None)
            if array is not None:
                self._reducers[array] = self._reduce_array
        return self._reducers

    def _reduce_array(self, array: Any) -> Any:
        if array.flags.writeable or array.dtype.hasobject or not array.flags.forc:
            return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if self._is_shared is not None and self._is_shared(pickle.PickleBuffer(array).raw()):
            return array.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        # In the other process it is nobody else's. With a protocol before buffers it arrives writable.
        if array.nbytes < _THRESHOLD:
            return array.__reduce_ex__(4)
        return array.copy(order="A").__reduce_ex__(pickle.HIGHEST_PROTOCOL)

    def _reduce_view(self, view: memoryview) -> Any:
        if self._is_shared is None or not view.c_contiguous or not self._is_shared(view):
            raise TypeError("cannot pickle 'memoryview' object")
        return memoryview, (pickle.PickleBuffer(view),)


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
