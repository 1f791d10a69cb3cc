"""The least that an installed Coterie must do; needs nothing but the wheel."""

import importlib
import pathlib
import pickle
import pkgutil
import sys

import coterie

# What pytest loads, where it is.
PLUGIN = "coterie._pytest"


def main() -> None:
    assert pathlib.Path(coterie.__file__).is_relative_to(sys.prefix), coterie.__file__
    modules = sorted(module.name for module in pkgutil.walk_packages(coterie.__path__, "coterie."))
    for name in (name for name in modules if name != PLUGIN):
        importlib.import_module(name)
    for name in coterie.__all__:
        assert getattr(coterie, name) is not None, name
    ring = coterie.ConsistentHash(["a", "b", "c"])
    assert pickle.loads(pickle.dumps(ring)).get("key") == ring.get("key")
    with coterie.Pool(2) as pool:
        assert pool.map(abs, range(-3, 0)) == [3, 2, 1]
    assert pathlib.Path(coterie.__file__).with_name("py.typed").exists()
    print(f"smoke: coterie {coterie.__version__}, {len(modules)} modules, {len(coterie.__all__)} names")


if __name__ == "__main__":
    main()
