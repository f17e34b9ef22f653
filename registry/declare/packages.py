"""Whether the packages that would be imported by our names are ours."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("registry", "fact", "evals")
MARKER = "lazy_loader"
"""What the ``__init__.py`` of each of them names, and a package of another distribution hardly."""

ROOT = Path(__file__).resolve().parents[2]


class ShadowedPackageError(ImportError):
    """Another package has the import name of one of ours, and would be imported instead."""


@functools.cache
def require_own_packages() -> None:
    """Check that nothing shadows a package of ours, in bounded time and without importing any.

    Other distributions have the same import names (OpenAI's ``evals`` on PyPI is one), and so may a
    folder in which a command is typed.

    Raises
    ------
    ShadowedPackageError
        With where the other package is, and what to do.
    """
    for name in PACKAGES:
        spec = find_spec(name)
        expected = ROOT / name
        found = [Path(path) for path in (spec.submodule_search_locations or ())] if spec else []
        if not any(path.resolve() == expected for path in found[:1]):
            where = f"found in {found[0]}" if found else "not found"
            raise ShadowedPackageError(
                f"the package {name!r} is not factbook's: {where}; expected {expected}. Rename "
                "that folder, run from another one, or uninstall what brought it"
            )
        if MARKER not in (expected / "__init__.py").read_text(encoding="utf-8"):
            raise ShadowedPackageError(
                f"another distribution has written over factbook's package {name!r} in {expected} "
                f"(OpenAI's `evals` has this import name); install factbook in an "
                "environment of its own"
            )
