"""Imports of a notebook: modules beside it are found, and a changed one is loaded anew by the next run.

Python keeps modules for the whole process, and runs share it. So they are dropped when what lies in the folder
has changed, when a notebook of another folder comes, and whenever the driver is idle. A run that is still going
keeps the modules it has; only what it imports later may be newer.
"""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path

_Signature = dict[str, tuple[int, int]]


class Modules:
    """The modules loaded from the workspace, and the folders of the runs that are going."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._folders: list[Path] = []
        self._loaded: tuple[Path, _Signature] | None = None
        self._lock = threading.Lock()

    def enter(self, folder: Path) -> None:
        """A run begins whose notebook lies in this folder."""
        with self._lock:
            wanted = (folder, _signature(folder))
            if not self._folders or wanted != self._loaded:
                self._forget()
                self._loaded = wanted
            self._folders.append(folder)
            if sys.path[:1] != [str(folder)]:
                sys.path.insert(0, str(folder))

    def leave(self, folder: Path) -> None:
        """The run is over."""
        with self._lock:
            self._folders.remove(folder)
            if folder not in self._folders:
                sys.path[:] = [entry for entry in sys.path if entry != str(folder)]

    def _forget(self) -> None:
        importlib.invalidate_caches()
        root = str(self._workspace) + "/"
        for name, module in list(sys.modules.items()):
            places = [getattr(module, "__file__", None), *list(getattr(module, "__path__", []))]
            if any(place and str(place).startswith(root) for place in places):
                del sys.modules[name]


def _signature(folder: Path) -> _Signature:
    if not folder.is_dir():
        return {}
    files = [(file, file.stat()) for file in folder.rglob("*.py")]
    return {str(file): (status.st_mtime_ns, status.st_size) for file, status in files}
