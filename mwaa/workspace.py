"""Put the notebooks and their library into a Databricks workspace, through the Workspace API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

NOTEBOOK_HEADER = "# Databricks notebook source"


def deploy_notebooks(client: Any, source: Path, target: str) -> list[str]:
    """Upload every notebook and library file below ``source`` to the workspace folder ``target``.

    Notebooks lose their ``.py`` as Databricks shows them; library files keep it, so that notebooks can import them.
    What lies in ``target`` and no longer in ``source`` is deleted: a stale module would still be importable.

    :param client: a ``databricks.sdk.WorkspaceClient``.
    :return: the workspace paths that were written.
    """
    from databricks.sdk.service.workspace import ImportFormat, Language

    written = []
    for path, name in _workspace_files(source):
        workspace_path = f"{target}/{name}"
        client.workspace.mkdirs(workspace_path.rpartition("/")[0])
        content = path.read_bytes()
        if _is_notebook(path):
            kind = {"format": ImportFormat.SOURCE, "language": Language.PYTHON}
        else:
            kind = {"format": ImportFormat.AUTO}
        client.workspace.upload(workspace_path, content, overwrite=True, **kind)
        written.append(workspace_path)
    _delete_others(client, target, set(written))
    return written


def _workspace_files(source: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(source.rglob("*.py")):
        relative = path.relative_to(source)
        yield path, str(relative.with_suffix("") if _is_notebook(path) else relative)


def _is_notebook(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return file.readline().strip() == NOTEBOOK_HEADER


def _delete_others(client: Any, folder: str, wanted: set[str]) -> None:
    from databricks.sdk.service.workspace import ObjectType

    for item in client.workspace.list(folder):
        if item.object_type == ObjectType.DIRECTORY:
            if any(path.startswith(f"{item.path}/") for path in wanted):
                _delete_others(client, item.path, wanted)
            else:
                client.workspace.delete(item.path, recursive=True)
        elif item.path not in wanted:
            client.workspace.delete(item.path)
