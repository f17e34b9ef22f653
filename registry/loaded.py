"""Source texts as they were when their modules were imported, whoever edits the files since."""

from __future__ import annotations

import os
import sys
import time
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType

_INSTALLED = ("/site-packages/", "/dist-packages/")  # which nobody edits
_TEXTS: dict[str, bytes] = {}
_FRESH_SECONDS = 2.0


def loaded_text(path: str) -> bytes | None:
    """Return the text of a module's file as this process, or one it was forked from, loaded it.

    None if it was not loaded, or before `keep_loaded_texts`, or is an installed one.
    """
    return _TEXTS.get(path)


def files_beside(modules: Iterable[str]) -> dict[str, int]:
    """Return the CRC-32 of each file of the packages that modules are of, but for installed ones.

    Of modules that are in no package, of the files in their folder.
    """
    files: set[Path] = set()
    for name in modules:
        with suppress(ImportError, ValueError, AttributeError):
            origin = getattr(find_spec(name), "origin", None)
            if origin and not any(part in origin for part in _INSTALLED):
                folder = Path(origin).parent
                is_package = (folder / "__init__.py").exists()
                while (folder.parent / "__init__.py").exists():
                    folder = folder.parent
                files.update(folder.rglob("*.py") if is_package else folder.glob("*.py"))
    found = {}
    for file in files:
        with suppress(OSError):
            found[str(file)] = zlib.crc32(file.read_bytes())
    return found


def keep_loaded_texts() -> None:
    """Keep the texts of all modules that are imported from now on, but for installed ones."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    """Finds what the other finders find."""

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in sys.stdlib_module_names:
            return None
        others = (finder for finder in sys.meta_path if finder is not cls)
        found = (other.find_spec(name, path, target) for other in others)
        spec = next(filter(None, found), None)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            module, file = spec.loader.name, spec.loader.path
            if not any(part in file for part in _INSTALLED):
                spec.loader = _Loader(module, file)
        return spec


class _Loader(SourceFileLoader):
    """Keeps the text that it loads, compiled before or not.

    Python takes byte code for that of a file by its size and the second of its last change. A file
    that was written just now, and may be again within that second, is always compiled.
    """

    def get_code(self, fullname: str) -> CodeType | None:
        while True:
            text = self.get_data(self.path)
            if time.time() - os.stat(self.path).st_mtime < _FRESH_SECONDS:
                code: CodeType | None = self.source_to_code(text, self.path)
            else:
                code = super().get_code(fullname)
            if self.get_data(self.path) == text:  # nobody has edited it meanwhile
                _TEXTS[self.path] = text
                return code
