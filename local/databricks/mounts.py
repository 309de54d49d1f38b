"""Mounts of ``dbfs:/``: a table of mount point → bucket that outlives every driver.

A mount is one Hadoop setting of a running driver. The table is a file, so that the next driver has the same
mounts; other running drivers take them up with ``dbutils.fs.refreshMounts()`` or at their next notebook.
"""

from __future__ import annotations

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SOURCE = re.compile(r"s3[an]?://(?:[^/@]+@)?([a-z0-9][a-z0-9.-]+[a-z0-9])(/.*)?")


class MountError(Exception):
    """The mount cannot be made or undone; worded as on Databricks."""


class MountTable:
    """The file with all mounts; every change is made under a lock, since drivers share it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, str]:
        """Mount point → s3a URL."""
        try:
            mounts: dict[str, str] = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return mounts

    def add(self, point: str, source: str, *, replace: bool = False) -> tuple[str, str]:
        """Notes a mount and returns its point and its s3a URL. Raises MountError."""
        point, url = _point(point), _url(source)
        with self._locked() as mounts:
            if point in mounts and not replace:
                raise MountError(f"{_REFUSED}Directory already mounted: {point}")
            mounts[point] = url
        return point, url

    def remove(self, point: str) -> str:
        """Forgets a mount and returns its point. Raises MountError."""
        point = _point(point)
        with self._locked() as mounts:
            if point not in mounts:
                raise MountError(f"{_REFUSED}Directory not mounted: {point}")
            del mounts[point]
        return point

    @contextmanager
    def _locked(self) -> Iterator[dict[str, str]]:
        with self._file.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            mounts = self.read()
            yield mounts
            written = self._file.with_suffix(".new")
            written.write_text(json.dumps(mounts, indent=1), encoding="utf-8")
            written.replace(self._file)


_REFUSED = "java.rmi.RemoteException: java.lang.IllegalArgumentException: requirement failed: "


def _point(point: str) -> str:
    path = "/" + point.removeprefix("dbfs:").strip("/")
    if path == "/" or ".." in path.split("/"):
        raise MountError(f"{_REFUSED}Mount points must be below /, like /mnt/name, not {point!r}")
    return path


def _url(source: str) -> str:
    """Only the bucket and its prefix: keys in the URL, an old custom, are dropped and the machine's own are used."""
    match = _SOURCE.fullmatch(source)
    if match is None:
        raise MountError(f"{_REFUSED}Only S3 can be mounted here, like s3a://bucket")
    return f"s3a://{match[1]}{(match[2] or '').rstrip('/')}/"
