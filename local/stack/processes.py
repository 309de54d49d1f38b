"""Which processes are a stack's: those that carry its id in their environment, and all that descend from them.

A process may overwrite its environment (setproctitle writes its title over it) and leave its process group and
session, but not its ancestors: the stack's reaper takes in whatever loses its parent (see local.stack.reaper).
Open files, working folders and names of files among the arguments say nothing by themselves: editors and shells of
the stack's user have them too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import psutil

MARKER = "PINTEREST_STACK_ID"
"""The variable that every process of a stack is started with."""


def of_stack(home: Path, stack_id: str | None = None) -> list[psutil.Process]:
    """Return every running process of the stack in a folder, orphans included, without this one and its ancestors.

    :param stack_id: as the stack's files say. Where they are gone, the parts whose arguments name files of the
        folder's ``etc`` tell it.
    """
    environments = _marked()
    ids = {stack_id, *(environments[process] for process in environments if _names_files_of(process, home))}
    marked = [process for process, its_id in environments.items() if its_id in ids]
    own = set(psutil.Process().parents()) | {psutil.Process()}
    return sorted(_with_descendants(marked) - own, key=lambda process: process.pid)


def _marked() -> dict[psutil.Process, str]:
    """Return each process that carries any stack's id, with that id."""
    found = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if stack_id := process.environ().get(MARKER):
                found[process] = stack_id
    return found


def _names_files_of(process: psutil.Process, home: Path) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        return any(argument.startswith(f"{home}/etc/") for argument in process.cmdline())
    return False


def _with_descendants(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    found = set(processes)
    for process in list(found):
        with contextlib.suppress(psutil.Error):
            found.update(process.children(recursive=True))
    return {process for process in found if _runs(process)}


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
