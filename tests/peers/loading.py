"""Code of others, as it is installed. A peer that is absent is skipped by name.

One module of a distribution is loaded without the `__init__` of the packages around it: these bring in every kernel and
model, and `fla`'s need a GPU's compiler. Nothing stays in `sys.modules`, so that whoever imports the package later gets
the whole of it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest


@cache
def peer(distribution: str, module: str) -> ModuleType:
    """The module of that dotted name, for example peer("fla-core", "fla.ops.delta_rule.naive").

    Skips the test where the distribution, or a package that the module imports, is not installed. A module that the
    distribution does not have is an error: the peer has moved it.
    """
    try:
        root = Path(str(metadata.distribution(distribution).locate_file("")))
    except metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install 'nldsl[peers]'")
    with _bare_packages(root, module):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or _top(error.name) == _top(module):
                raise
            pytest.skip(f"{distribution} needs {error.name}, which is not installed: pip install 'nldsl[peers]'")


@contextmanager
def _bare_packages(root: Path, module: str) -> Iterator[None]:
    """The packages around the module are only their folders; afterwards all is as before."""
    before = {name: sys.modules.pop(name) for name in _within(_top(module))}
    parts = module.split(".")[:-1]
    for depth in range(1, len(parts) + 1):
        package = ModuleType(".".join(parts[:depth]))
        package.__path__ = [str(root.joinpath(*parts[:depth]))]
        sys.modules[package.__name__] = package
    try:
        yield
    finally:
        for name in _within(_top(module)):
            del sys.modules[name]
        sys.modules.update(before)


def _within(package: str) -> list[str]:
    return [name for name in sys.modules if _top(name) == package]


def _top(module: str) -> str:
    return module.partition(".")[0]
