"""Put the notebooks and their library into a Databricks workspace, through the Workspace API."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mwaa.bucket import Changes, compare
from mwaa.errors import WorkspaceError

NOTEBOOK_HEADER = "# Databricks notebook source"


@contextmanager
def spoken() -> Iterator[None]:
    """Turn what databricks-sdk raises into a WorkspaceError that a person can act on."""
    import requests
    from databricks.sdk.errors.base import DatabricksError
    from databricks.sdk.errors.platform import PermissionDenied, Unauthenticated

    def reason(error: Exception) -> str:
        return str(error).split(" Config:", maxsplit=1)[0].strip().rstrip(".")

    try:
        yield
    except DatabricksError as error:
        if "unable to parse response" in str(error):
            raise WorkspaceError(
                "What answers at DATABRICKS_HOST is no Databricks workspace. Set the workspace's address, such as "
                "https://dbc-01234567-89ab.cloud.databricks.com"
            ) from None
        if not isinstance(error, Unauthenticated | PermissionDenied):
            raise WorkspaceError(f"The Databricks workspace refused: {reason(error)}.") from None
        # Databricks answers a token that is wrong or over with the code of a missing permission.
        if isinstance(error, PermissionDenied) and "token" not in reason(error).lower():
            raise WorkspaceError(
                f"Not permitted in the Databricks workspace: {reason(error)}. The login needs 'can manage' on the "
                "folder of the notebooks."
            ) from None
        raise WorkspaceError(
            f"The Databricks workspace does not take the login: {reason(error)}. The token is wrong or has expired: "
            "make a new one and set DATABRICKS_TOKEN, then run this again."
        ) from None
    except (requests.RequestException, TimeoutError) as error:
        raise WorkspaceError(
            f"The Databricks workspace does not answer: {reason(error)}. Check DATABRICKS_HOST and the network."
        ) from None
    except ValueError as error:
        # What the SDK says when no host or no way to log in is configured.
        raise WorkspaceError(
            f"No Databricks workspace: {reason(error)}. Set DATABRICKS_HOST with DATABRICKS_TOKEN, or with "
            "DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET."
        ) from None


def connect() -> Any:
    """Return a client of the workspace that databricks-sdk's usual variables name, once it has let us in."""
    import logging

    # The SDK looks for the workspace's optional description, and warns where there is none.
    logging.getLogger("databricks.sdk").setLevel(logging.ERROR)
    from databricks.sdk import WorkspaceClient
    from databricks.sdk.core import Config

    with spoken():
        # A workspace that does not exist would be asked for five minutes.
        WorkspaceClient(config=Config(retry_timeout_seconds=3, http_timeout_seconds=20)).current_user.me()
        return WorkspaceClient()


def notebook_changes(client: Any, source: Path, target: str) -> Changes:
    """Compare the notebooks and library files below ``source`` with the workspace folder ``target``."""
    here = {name: _digest(path.read_bytes()) for path, name in _workspace_files(source)}
    return compare(here, _workspace_digests(client, target))


def deploy_notebooks(client: Any, source: Path, target: str) -> list[str]:
    """Bring the workspace folder ``target`` to what lies below ``source``; what is the same already is left alone.

    :param client: a ``databricks.sdk.WorkspaceClient``.
    :return: the workspace paths of all files.
    """
    upload_notebooks(client, source, target, notebook_changes(client, source, target))
    return [f"{target}/{name}" for _, name in _workspace_files(source)]


def upload_notebooks(client: Any, source: Path, target: str, changes: Changes) -> None:
    """Upload what is new or differs, and delete what is no longer in ``source``: a stale module can be imported still.

    Notebooks lose their ``.py`` as Databricks shows them; library files keep it, so that notebooks can import them.
    """
    from databricks.sdk.service.workspace import ImportFormat, Language

    wanted = {*changes.added, *changes.changed}
    files = {name: path for path, name in _workspace_files(source) if name in wanted}
    for folder in {f"{target}/{name}".rpartition("/")[0] for name in files}:
        client.workspace.mkdirs(folder)
    for name, path in files.items():
        kind: dict[str, Any] = {"format": ImportFormat.AUTO}
        if _is_notebook(path):
            kind = {"format": ImportFormat.SOURCE, "language": Language.PYTHON}
        client.workspace.upload(f"{target}/{name}", path.read_bytes(), overwrite=True, **kind)
    for name in changes.removed:
        client.workspace.delete(f"{target}/{name}")


def remove_notebooks(client: Any, target: str) -> bool:
    """Delete the folder of the notebooks; return whether there was one."""
    from databricks.sdk.errors import NotFound

    try:
        client.workspace.delete(target, recursive=True)
    except NotFound:
        return False
    return True


def scope_changes(client: Any, scope: str, wanted: dict[str, str]) -> list[str]:
    """Return the keys of a secret scope that are missing or have another value than wanted; all, without a scope.

    Secrets are readable in notebooks only. What a key's value is, is therefore told by the name of a second key, its
    seal, which is put after it.
    """
    if scope not in {each.name for each in client.secrets.list_scopes()}:
        return sorted(wanted)
    put = {each.key: each.last_updated_timestamp or 0 for each in client.secrets.list_secrets(scope)}

    def same(key: str) -> bool:
        seal = _seal(scope, key, wanted[key])
        return key in put and seal in put and put[key] <= put[seal]

    return sorted(key for key in wanted if not same(key))


def put_scope(client: Any, scope: str, wanted: dict[str, str]) -> list[str]:
    """Create a secret scope if it is missing and put what differs; return the keys that were put."""
    changed = scope_changes(client, scope, wanted)
    if scope not in {each.name for each in client.secrets.list_scopes()}:
        client.secrets.create_scope(scope)
    for key in changed:
        for each in client.secrets.list_secrets(scope):
            if each.key.startswith(f"{key}.sha256-"):
                client.secrets.delete_secret(scope, each.key)
        client.secrets.put_secret(scope, key, string_value=wanted[key])
        client.secrets.put_secret(scope, _seal(scope, key, wanted[key]), string_value="seal")
    return changed


def _seal(scope: str, key: str, value: str) -> str:
    """Return the name of a key that says which value another one has, and tells it to nobody who does not know it."""
    digest = hashlib.sha256(json.dumps([scope, key, value]).encode()).hexdigest()
    return f"{key}.sha256-{digest[:32]}"


def _workspace_files(source: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(source.rglob("*.py")):
        relative = path.relative_to(source)
        yield path, str(relative.with_suffix("") if _is_notebook(path) else relative)


def _is_notebook(path: Path) -> bool:
    with path.open(encoding="utf-8") as file:
        return file.readline().strip() == NOTEBOOK_HEADER


def _workspace_digests(client: Any, folder: str) -> dict[str, str]:
    """Return name below the folder -> digest, of everything there; eight at a time, as each is a call."""
    from databricks.sdk.service.workspace import ExportFormat, ObjectType

    def digest(item: Any) -> str:
        kind = ExportFormat.SOURCE if item.object_type == ObjectType.NOTEBOOK else ExportFormat.AUTO
        return _digest(base64.b64decode(client.workspace.export(item.path, format=kind).content or ""))

    items = {item.path.removeprefix(f"{folder}/"): item for item in _walk(client, folder)}
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(items, pool.map(digest, items.values()), strict=True))


def _walk(client: Any, folder: str) -> Iterator[Any]:
    from databricks.sdk.errors import NotFound
    from databricks.sdk.service.workspace import ObjectType

    try:
        items = list(client.workspace.list(folder))
    except NotFound:
        return
    for item in items:
        if item.object_type == ObjectType.DIRECTORY:
            yield from _walk(client, item.path)
        else:
            yield item


_ENVIRONMENT = re.compile(rb"^# /// script\n((?:#[^\n]*\n)*?)# ///\n", re.M)
_VERSION = re.compile(rb"^# environment_version *= *\S+$", re.M)


def _digest(content: bytes) -> str:
    # A workspace writes its own settings into the header of a notebook that is opened there; of that header, the
    # environment's version is what the notebook asks for.
    content = _ENVIRONMENT.sub(lambda header: b"\n".join(_VERSION.findall(header[1])), content, count=1)
    # The workspace keeps a notebook's cells, not its bytes: line ends at its end may go.
    return hashlib.sha256(content.rstrip()).hexdigest()
