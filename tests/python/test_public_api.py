"""What is public is declared, there, and documented."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import coterie
import coterie.exceptions
from coterie import _coterie


def test_all_is_what_is_there(public_module: ModuleType) -> None:
    declared: list[str] = public_module.__all__
    for name in declared:
        getattr(public_module, name)  # some are loaded only now
    assert len(declared) == len(set(declared)), "__all__ names something twice"
    for name in declared:
        getattr(public_module, name)  # some are loaded when they are named
    assert set(declared) == set(names_of(public_module))


def test_every_public_name_is_documented_with_an_example(public_module: ModuleType) -> None:
    assert public_module.__doc__
    bare = []
    for name in public_module.__all__:
        thing = getattr(public_module, name)
        if not callable(thing):
            continue
        if ">>> " not in (own_documentation(thing) or ""):
            bare.append(f"{name}: no example")
        bare += [f"{name}.{method}: no docstring" for method in undocumented_methods(thing)]
    assert not bare


def test_every_error_can_be_caught_from_the_package() -> None:
    names = coterie.exceptions.__all__
    assert len(names) >= 7
    assert not [
        name for name in names if getattr(coterie, name, None) is not getattr(coterie.exceptions, name)
    ]


def test_the_guard_sees_compiled_names() -> None:
    assert names_of(_coterie), "the compiled module seems empty"
    assert len(coterie.__all__) >= 7


def test_what_dir_shows_is_meant_to_be_used() -> None:
    shown = {name for name in dir(coterie) if not name.startswith("_")}
    modules = {name for name in shown if inspect.ismodule(getattr(coterie, name))}
    assert shown - modules == set(coterie.__all__)
    assert modules >= {"balance", "exceptions", "ring"}


def test_the_version_is_one_of_the_scheme() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", coterie.__version__)


def names_of(module: ModuleType) -> list[str]:
    """What users may rely on: the classes and functions without an underscore that the module defines, and, in a
    package, what it hands on from below. Modules, constants and type aliases count where ``__all__`` names them.
    """
    is_package = hasattr(module, "__path__")
    names = []
    for name, thing in vars(module).items():
        if name.startswith("_"):
            continue
        home = getattr(thing, "__module__", None) or ""
        is_ours = home == module.__name__ or (is_package and home.split(".")[0] == "coterie")
        is_defined = is_ours and (inspect.isclass(thing) or inspect.isroutine(thing))
        if is_defined or name in getattr(module, "__all__", ()):
            names.append(name)
    return names


def own_documentation(thing: object) -> str | None:
    return thing.__doc__ if inspect.isclass(thing) else inspect.getdoc(thing)


def undocumented_methods(thing: object) -> list[str]:
    if not inspect.isclass(thing) or issubclass(thing, BaseException):
        return []
    members = inspect.getmembers(thing, lambda member: callable(member) or inspect.isdatadescriptor(member))
    public = [(name, member) for name, member in members if not name.startswith("_")]
    # A field has no docstring of its own: numpydoc describes it in the class.
    rows = re.findall(r"^ *(\w+(?:, \w+)*) : ", thing.__doc__ or "", flags=re.MULTILINE)
    fields = {field for row in rows for field in row.split(", ")}
    return [name for name, member in public if name not in fields and not inspect.getdoc(member)]
