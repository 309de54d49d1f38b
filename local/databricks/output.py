"""What a notebook prints: each run's text goes to its own file, secrets never.

Runs share one process, so standard output is told apart by thread. A thread that no run owns (Spark calls
``foreachBatch`` functions on its own) belongs to the run, when the driver carries exactly one.
"""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import TextIO

_LARGEST = 20 * 1024 * 1024
_SHORTEST_SECRET = 4


class Redactor:
    """Replaces the secrets that notebooks have read. Shorter than 4 characters would hide ordinary text."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def add(self, value: str) -> None:
        if len(value.strip()) >= _SHORTEST_SECRET:
            self._values |= {value, value.strip()}

    def __call__(self, text: str) -> str:
        for value in sorted(self._values, key=len, reverse=True):
            text = text.replace(value, "[REDACTED]")
        return text


class RunLog:
    """The file that holds what one run prints, readable by its owner only, cut after 20 MB."""

    def __init__(self, file: Path, redact: Redactor) -> None:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(handle, "w", encoding="utf-8", errors="replace", buffering=1)
        self._redact = redact
        self._written = 0
        self._lock = threading.Lock()

    def write(self, text: str) -> None:
        with self._lock:
            if self._file.closed or self._written > _LARGEST:
                return
            self._written += self._file.write(self._redact(text))
            if self._written > _LARGEST:
                self._file.write("\n*** output is cut here ***\n")
            self._file.flush()

    def close(self) -> None:
        with self._lock:
            self._file.close()


class Router(io.TextIOBase):
    """Stands for ``sys.stdout``: hands what a thread writes to the log of its run, or to the driver's own."""

    def __init__(self, driver: TextIO, redact: Redactor) -> None:
        self._driver = driver
        self._redact = redact
        self._logs: dict[int, RunLog] = {}

    def claim(self, log: RunLog) -> None:
        """The calling thread writes to this log from now on."""
        self._logs[threading.get_ident()] = log

    def release(self, log: RunLog) -> None:
        """No thread writes to this log any more."""
        for thread in [thread for thread, owned in self._logs.items() if owned is log]:
            del self._logs[thread]

    def write(self, text: str) -> int:
        owners = set(self._logs.values())
        log = self._logs.get(threading.get_ident()) or (owners.pop() if len(owners) == 1 else None)
        if log:
            log.write(text)
        else:
            self._driver.write(self._redact(text))
        return len(text)

    def flush(self) -> None:
        self._driver.flush()

    def writable(self) -> bool:
        return True
