"""The object in which the stream job tells how far the stream tables of a schema have come."""

from __future__ import annotations

import json
from typing import Any

from pinterest_lake.lake import Lake
from pinterest_lake.objects import StorageError, first_line, is_missing

_LARGEST = 16 * 1024 * 1024


def read_progress(dbutils: Any, lake: Lake) -> dict[str, Any]:
    """What the job has told last; empty before it has told anything. Raises StorageError when it cannot be read."""
    folder, name = lake.progress_path.rsplit("/", 1)
    try:
        if not any(entry.name == name for entry in dbutils.fs.ls(folder)):
            return {}
        text = dbutils.fs.head(lake.progress_path, _LARGEST)
    except Exception as error:
        if is_missing(error):
            return {}
        raise StorageError(
            f"{lake.progress_path} cannot be read: {first_line(error)}. How far the tables have come stands in it. "
            "Check that the cluster may read it; a storage that is away for a moment needs another start only."
        ) from error
    told: dict[str, Any] = json.loads(text)
    return told
