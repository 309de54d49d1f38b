"""What keeps a stack's processes together: no process of it can leave, whatever it does to its name or its parent.

    python -m local.stack.reaper FOLDER/     # a stack's etc; runs supervisord and takes in its orphans

On Linux a *child subreaper* becomes the parent of every descendant that loses its own. There are two in a stack: this
process, the ancestor of all others, which stays until the last of them has ended, even when supervisord is killed;
and supervisord, which ends what a part that died has left behind, so that nothing piles up with each restart.
Elsewhere the stack runs without them, and only the mark in the environment tells its processes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from typing import Any

import psutil

_PR_SET_CHILD_SUBREAPER = 36


def main(etc: str) -> int:
    """Run supervisord, and return once it and all that descends from it have ended."""
    become_subreaper()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: None)  # it ends last; a handler, since SIG_IGN would be inherited
    command = [sys.executable, "-m", "supervisor.supervisord", "--nodaemon", "-c", f"{etc}supervisord.conf"]
    supervisord = subprocess.Popen(command)
    status = 0
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, ended = os.wait()
            if pid == supervisord.pid:
                status = os.waitstatus_to_exitcode(ended)
    return abs(status)


def become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def make_rpcinterface(supervisord: Any) -> object:
    """Take part in supervisord as a plug-in of it: supervisord calls this at its start, once."""
    from supervisor import events

    def end_orphans(_: object) -> None:
        for child in psutil.Process().children():
            if child.pid not in supervisord.options.pidhistory:
                _end(child)

    become_subreaper()
    events.subscribe(events.ProcessStateExitedEvent, end_orphans)
    events.subscribe(events.ProcessStateBackoffEvent, end_orphans)
    return object()


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.Error):
        for each in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.Error):
                each.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
