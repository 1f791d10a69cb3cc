"""How the reference is built; `make docs`."""

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import coterie

project = "Coterie"
author = copyright = "the Coterie authors"  # noqa: A001 - Sphinx's name
version = release = coterie.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Coterie {release}"

# Methods of compiled classes are documented where they are written, and inherited by the public class.
CLASS_OPTIONS = "   :members:\n   :inherited-members: BaseException, Future\n   :show-inheritance:\n"
autodoc_typehints = "signature"
numpydoc_show_class_members = False  # autodoc lists them already

# Models, clients and their asynchronous twins share names; a short one may mean several.
suppress_warnings = ["ref.python"]


def write_reference(_app: Any) -> None:
    """One page for each public module, so that a new one appears by itself."""
    pages = Path(__file__).parent / "api"
    pages.mkdir(exist_ok=True)
    names = [module.name for module in pkgutil.walk_packages(coterie.__path__, "coterie.")]
    public = ["coterie", *sorted(name for name in names if "._" not in name)]
    for stale in {*pages.glob("*.rst")} - {pages / f"{name}.rst" for name in public}:
        stale.unlink()
    for name in public:
        module = importlib.import_module(name)
        # What a package only hands on is documented where it lives.
        own = [member for member in module.__all__ if is_own(getattr(module, member), name)]
        handed_on = sorted(set(module.__all__) - set(own))
        text = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n\n"
        if handed_on:
            text += "Also here: " + ", ".join(f":py:obj:`{member}`" for member in handed_on) + ".\n\n"
        for member in own:
            thing = getattr(module, member)
            kind = "exception" if is_error(thing) else "class" if inspect.isclass(thing) else "function"
            text += f".. auto{kind if callable(thing) else 'data'}:: {name}.{member}\n"
            text += f"{CLASS_OPTIONS if inspect.isclass(thing) else ''}\n"
        (pages / f"{name}.rst").write_text(text, encoding="utf-8")
    print(f"reference: {len(public)} modules")


def is_own(thing: object, name: str) -> bool:
    # What a private module defines has no other page.
    where = home(thing, name)
    return where == name or "._" in where


def home(thing: object, default: str) -> str:
    return thing.__name__ if inspect.ismodule(thing) else getattr(thing, "__module__", default)


def is_error(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, BaseException)


def setup(app: Any) -> None:
    app.connect("builder-inited", write_reference)
