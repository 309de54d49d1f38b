"""The HTTP face: the Jobs, Workspace, Secrets and Clusters APIs, and a page for each run.

Every door has the same lock: the token, as a bearer for the API, or as the password of the user ``token`` for the
pages, so that a browser can show them. The API does not take that second form: a browser sends it unasked.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from local.databricks import compute, fields, page
from local.databricks.access import Access
from local.databricks.clusters import Clusters
from local.databricks.errors import ApiError
from local.databricks.jobs import USER, Jobs, Runs
from local.databricks.secret_scopes import SecretScopes
from local.databricks.workspace import Workspace

log = logging.getLogger(__name__)

Values = fields.Values
Answer = dict[str, Any]
Handler = Callable[[Values], Answer]

_PAGE_SIZE = 25


def application(
    *,
    token: str,
    jobs: Jobs,
    runs: Runs,
    workspace: Workspace,
    secrets: SecretScopes,
    clusters: Clusters,
    access: Access,
) -> Starlette:
    """The ASGI application over its parts."""
    api = {
        **_jobs(jobs, runs),
        **_runs(runs),
        **_workspace(workspace),
        **_secrets(secrets),
        **_clusters(clusters),
        **_access(access),
    }

    async def call(request: Request) -> Response:
        _check_bearer(request, token)
        found, named = _found(api, request)
        values = {**await _values(request), **named}
        if values.get("direct_download") in (True, "true"):
            return Response(base64.b64decode(found(values)["content"]), media_type="application/octet-stream")
        return JSONResponse(found(values))

    async def runs_page(request: Request) -> Response:
        if not _has_basic(request, token):
            return _ask_basic()
        found = runs.list(job_id=None, active=None)[:_RUNS_SHOWN]
        return _html(page.render_list(found))

    async def run_page(request: Request) -> Response:
        if not _has_basic(request, token):
            return _ask_basic()
        run = runs.get(fields.number(request.path_params, "run_id"))
        tasks = [(task, runs.output(task["run_id"]), runs.printed(task["run_id"])) for task in run["tasks"]]
        return _html(page.render(run, tasks))

    async def unknown(request: Request) -> Response:
        if not request.url.path.startswith("/.well-known/"):  # asked by the SDK before it signs in
            _check_bearer(request, token)
        raise ApiError("ENDPOINT_NOT_FOUND", f"No API found for '{request.method} {request.url.path}'")

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return Starlette(
        routes=[
            Route("/api/{version}/{path:path}", call, methods=methods),
            Route("/", runs_page),
            Route("/jobs/{job_id}/runs/{run_id}", run_page),
            Route("/{path:path}", unknown, methods=methods),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _internal_error},
    )


# -- the APIs, as (method, path after the version) → handler


def _jobs(jobs: Jobs, runs: Runs) -> dict[tuple[str, str], Handler]:
    def listed(values: Values) -> Answer:
        found = jobs.list(fields.optional_string(values, "name"))
        if not fields.flag(values, "expand_tasks"):
            found = [job | {"settings": _without(job["settings"], "tasks", "job_clusters")} for job in found]
        return _paged(values, "jobs", found)

    def reset(values: Values) -> Answer:
        job_id = fields.number(values, "job_id")
        jobs.reset(job_id, fields.mapping(values, "new_settings"))
        runs.apply_time_limit(job_id)
        return {}

    def update(values: Values) -> Answer:
        removed = values.get("fields_to_remove") or []
        fields.list_of(fields.text)(removed, "fields_to_remove")
        changed = fields.mapping(values, "new_settings") if values.get("new_settings") is not None else {}
        job_id = fields.number(values, "job_id")
        jobs.update(job_id, changed, removed)
        runs.apply_time_limit(job_id)
        return {}

    def delete(values: Values) -> Answer:
        jobs.delete(fields.number(values, "job_id"))
        return {}

    return {
        ("POST", "jobs/create"): lambda values: {"job_id": jobs.create(values)},
        ("GET", "jobs/get"): lambda values: jobs.get(fields.number(values, "job_id")),
        ("GET", "jobs/list"): listed,
        ("POST", "jobs/reset"): reset,
        ("POST", "jobs/update"): update,
        ("POST", "jobs/delete"): delete,
    }


def _runs(runs: Runs) -> dict[tuple[str, str], Handler]:
    def run_now(values: Values) -> Answer:
        run_id = runs.run_now(fields.number(values, "job_id"), values)
        return {"run_id": run_id, "number_in_job": runs.get(run_id)["number_in_job"]}

    def listed(values: Values) -> Answer:
        active, completed = fields.flag(values, "active_only"), fields.flag(values, "completed_only")
        if active and completed:
            raise ApiError("INVALID_PARAMETER_VALUE", "active_only and completed_only exclude each other.")
        job_id = fields.number(values, "job_id") if values.get("job_id") else None
        found = runs.list(job_id=job_id, active=True if active else False if completed else None)
        if not fields.flag(values, "expand_tasks"):
            found = [_without(run, "tasks", "repair_history") for run in found]
        return _paged(values, "runs", found)

    def cancel(values: Values) -> Answer:
        runs.cancel(fields.number(values, "run_id"))
        return {}

    def cancel_all(values: Values) -> Answer:
        if not values.get("job_id") and not fields.flag(values, "all_queued_runs"):
            raise ApiError("INVALID_PARAMETER_VALUE", "Missing required field: job_id")
        runs.cancel_all(fields.number(values, "job_id") if values.get("job_id") else None)
        return {}

    def delete(values: Values) -> Answer:
        runs.delete(fields.number(values, "run_id"))
        return {}

    return {
        ("POST", "jobs/run-now"): run_now,
        ("POST", "jobs/runs/submit"): lambda values: {"run_id": runs.submit(values)},
        ("POST", "jobs/runs/repair"): lambda values: {
            "repair_id": runs.repair(fields.number(values, "run_id"), values)
        },
        ("GET", "jobs/runs/get"): lambda values: runs.get(fields.number(values, "run_id")),
        ("GET", "jobs/runs/get-output"): lambda values: runs.output(fields.number(values, "run_id")),
        ("GET", "jobs/runs/list"): listed,
        ("POST", "jobs/runs/cancel"): cancel,
        ("POST", "jobs/runs/cancel-all"): cancel_all,
        ("POST", "jobs/runs/delete"): delete,
    }


def _workspace(workspace: Workspace) -> dict[tuple[str, str], Handler]:
    def mkdirs(values: Values) -> Answer:
        workspace.mkdirs(fields.string(values, "path"))
        return {}

    def write(values: Values) -> Answer:
        content = values.get("content")
        if content is None:
            raise ApiError("INVALID_PARAMETER_VALUE", "Missing required field: content")
        workspace.write(
            fields.string(values, "path"),
            content if isinstance(content, bytes) else _decoded(content, "content"),
            format_=fields.optional_string(values, "format") or "SOURCE",
            language=fields.optional_string(values, "language"),
            overwrite=fields.flag(values, "overwrite"),
        )
        return {}

    def export(values: Values) -> Answer:
        entry = workspace.get(fields.string(values, "path"))
        if entry.file.is_dir():
            raise ApiError(
                "INVALID_PARAMETER_VALUE", f"{entry.path} is a folder; only notebooks and files are exported."
            )
        kind = (entry.language.suffix if entry.language else entry.file.suffix).lstrip(".")
        return {"content": base64.b64encode(entry.file.read_bytes()).decode(), "file_type": kind}

    def delete(values: Values) -> Answer:
        workspace.delete(fields.string(values, "path"), recursive=fields.flag(values, "recursive"))
        return {}

    def listed(values: Values) -> Answer:
        objects = [entry.as_dict() for entry in workspace.list(fields.string(values, "path"))]
        return {"objects": objects} if objects else {}

    return {
        ("POST", "workspace/mkdirs"): mkdirs,
        ("POST", "workspace/import"): write,
        ("GET", "workspace/export"): export,
        ("POST", "workspace/delete"): delete,
        ("GET", "workspace/list"): listed,
        ("GET", "workspace/get-status"): lambda values: workspace.get(
            fields.string(values, "path")
        ).as_dict(),
    }


def _secrets(secrets: SecretScopes) -> dict[tuple[str, str], Handler]:
    def create_scope(values: Values) -> Answer:
        secrets.create_scope(fields.string(values, "scope"))
        return {}

    def delete_scope(values: Values) -> Answer:
        secrets.delete_scope(fields.string(values, "scope"))
        return {}

    def put(values: Values) -> Answer:
        given = [name for name in ("string_value", "bytes_value") if name in values]
        if len(given) != 1:
            raise ApiError(
                "INVALID_PARAMETER_VALUE", "Exactly one of string_value and bytes_value must be given."
            )
        sent = values[given[0]]
        fields.text(sent, given[0])
        value = _decoded(sent, given[0]) if given == ["bytes_value"] else sent.encode()
        secrets.put(fields.string(values, "scope"), fields.string(values, "key"), value)
        return {}

    def get(values: Values) -> Answer:
        for name in ("scope", "key"):
            fields.string(values, name)
        raise ApiError("BAD_REQUEST", "Secrets are read with DBUtils, in a notebook.")

    def delete(values: Values) -> Answer:
        secrets.delete(fields.string(values, "scope"), fields.string(values, "key"))
        return {}

    def listed(values: Values) -> Answer:
        keys = secrets.keys(fields.string(values, "scope"))
        return {"secrets": [{"key": key, "last_updated_timestamp": updated} for key, updated in keys]}

    def scopes(values: Values) -> Answer:
        return {"scopes": [{"name": name, "backend_type": "DATABRICKS"} for name in secrets.scopes()]}

    return {
        ("POST", "secrets/scopes/create"): create_scope,
        ("POST", "secrets/scopes/delete"): delete_scope,
        ("GET", "secrets/scopes/list"): scopes,
        ("POST", "secrets/put"): put,
        ("GET", "secrets/get"): get,
        ("POST", "secrets/delete"): delete,
        ("GET", "secrets/list"): listed,
    }


def _clusters(clusters: Clusters) -> dict[tuple[str, str], Handler]:
    def get(values: Values) -> Answer:
        cluster = clusters.describe()
        asked = fields.string(values, "cluster_id")
        if asked != cluster["cluster_id"]:
            raise ApiError("INVALID_PARAMETER_VALUE", f"Cluster {asked} does not exist")
        return cluster

    return {
        ("GET", "clusters/list"): lambda values: {"clusters": [clusters.describe()]},
        ("GET", "clusters/get"): get,
        ("GET", "clusters/spark-versions"): lambda values: {"versions": compute.runtimes()},
        ("GET", "clusters/list-node-types"): lambda values: {"node_types": compute.node_types()},
    }


def _access(access: Access) -> dict[tuple[str, str], Handler]:
    """Who one is and what one may do. The last ``*`` of a path is handed on as ``name``, one before it as ``kind``."""

    def securable(kind: str) -> Handler:
        return lambda values: access.securable(kind, fields.string(values, "name"))

    def effective(values: Values) -> Answer:
        return access.effective(fields.string(values, "kind"), fields.string(values, "name"), USER)

    def permissions(values: Values) -> Answer:
        return access.permissions(fields.string(values, "name"), USER)

    unity = "unity-catalog"
    return {
        ("GET", "preview/scim/v2/Me"): lambda values: access.me(USER),
        ("GET", "instance-profiles/list"): lambda values: access.profiles(),
        ("GET", f"{unity}/catalogs/*"): securable("catalogs"),
        ("GET", f"{unity}/schemas/*"): securable("schemas"),
        ("GET", f"{unity}/volumes/*"): securable("volumes"),
        ("GET", f"{unity}/credentials/*"): securable("credentials"),
        ("GET", f"{unity}/external-locations"): lambda values: access.locations(),
        ("GET", f"{unity}/effective-permissions/*/*"): effective,
        ("GET", "permissions/directories/*"): permissions,
    }


# -- reading a request


def _found(api: Mapping[tuple[str, str], Handler], request: Request) -> tuple[Handler, dict[str, str]]:
    """The handler of a request, and what its path names."""
    path = request.path_params["path"]
    if (request.method, path) in api:
        return api[request.method, path], {}
    for (method, pattern), handler in api.items():
        match = re.fullmatch(pattern.replace("*", "([^/]+)"), path) if "*" in pattern else None
        if match and method == request.method:
            kind, name = match.groups() if pattern.count("*") == 2 else ("", match[1])
            return handler, {"kind": kind, "name": name}
    raise ApiError("ENDPOINT_NOT_FOUND", f"No API found for '{request.method} {request.url.path}'")


async def _values(request: Request) -> dict[str, Any]:
    """Query, JSON body (some clients send one with GET too) or form, as one object."""
    values: dict[str, Any] = dict(request.query_params)
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        async with request.form() as form:
            for name, part in form.items():
                values[name] = part if isinstance(part, str) else await part.read()
        return values
    body = await request.body()
    if body.strip():
        values |= fields.parse(body)
    return values


def _decoded(text: Any, name: str) -> bytes:
    fields.text(text, name)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError("INVALID_PARAMETER_VALUE", f"{name} is not base64") from None


def _without(document: Mapping[str, Any], *keys: str) -> Answer:
    return {key: value for key, value in document.items() if key not in keys}


def _paged(values: Values, name: str, found: list[Answer]) -> Answer:
    """One page; a page token is the number of items before it."""
    limit = fields.number(values, "limit") if values.get("limit") else _PAGE_SIZE
    if not 1 <= limit <= 100:
        raise ApiError("INVALID_PARAMETER_VALUE", f"limit must be from 1 to 100, not {limit}")
    start = fields.number(values, "page_token") if values.get("page_token") else 0
    if start < 0:
        raise ApiError("INVALID_PARAMETER_VALUE", "page_token is not one that this API gave.")
    shown = found[start : start + limit]
    more = start + limit < len(found)
    answer: Answer = {name: shown} if shown else {}
    answer["has_more"] = more
    return answer | ({"next_page_token": str(start + limit)} if more else {})


# -- the lock

_RUNS_SHOWN = 100
_ASK_BASIC = {"WWW-Authenticate": 'Basic realm="local Databricks workspace", charset="UTF-8"'}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-store",
    "X-Frame-Options": "DENY",
}


def _check_bearer(request: Request, token: str) -> None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise ApiError("401", "Credential was not sent or was of an unsupported type for this API.")
    if not _same(given.strip(), token):
        raise ApiError("403", "Invalid access token.")


def _html(text: str) -> Response:
    """A page; what UTF-8 lacks (half of a surrogate pair in a run's name, say) is shown as an escape."""
    return HTMLResponse(text.encode("utf-8", "backslashreplace"), headers=_PAGE_HEADERS)


def _ask_basic() -> Response:
    return Response("The user is 'token', the password is the workspace's token.", 401, _ASK_BASIC)


def _has_basic(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return _same(given.strip(), token)
    if scheme.lower() != "basic":
        return False
    try:
        user, _, password = base64.b64decode(given, validate=True).decode().partition(":")
    except ValueError:
        return False
    return user == "token" and _same(password, token)


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.as_dict(), error.status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error_code": "BAD_REQUEST", "message": str(error.detail)}, error.status_code)


async def _internal_error(request: Request, error: Exception) -> Response:
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return JSONResponse(
        {"error_code": "INTERNAL_ERROR", "message": "The workspace failed; its log has the reason."}, 500
    )
