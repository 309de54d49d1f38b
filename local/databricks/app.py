"""The HTTP face: the Jobs, Workspace, Secrets and Clusters APIs, and a page for each run.

Every door has the same lock: the token, as a bearer for the API, or as the password of the user ``token`` for the
pages, so that a browser can show them. The API does not take that second form: a browser sends it unasked.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from local.databricks import page
from local.databricks.clusters import Clusters
from local.databricks.errors import ApiError
from local.databricks.jobs import USER, Jobs, Runs
from local.databricks.secret_scopes import SecretScopes
from local.databricks.workspace import Workspace

log = logging.getLogger(__name__)

Values = Mapping[str, Any]
Answer = dict[str, Any]
Handler = Callable[[Values], Answer]

_PAGE_SIZE = 25


def application(
    *, token: str, jobs: Jobs, runs: Runs, workspace: Workspace, secrets: SecretScopes, clusters: Clusters
) -> Starlette:
    """The ASGI application over its parts."""
    api = {
        **_jobs(jobs),
        **_runs(runs),
        **_workspace(workspace),
        **_secrets(secrets),
        **_clusters(clusters),
    }

    async def call(request: Request) -> Response:
        _check_bearer(request, token)
        found = api.get((request.method, request.path_params["path"]))
        if found is None:
            raise ApiError("ENDPOINT_NOT_FOUND", f"No API found for '{request.method} {request.url.path}'")
        values = await _values(request)
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
        run = runs.get(request.path_params["run_id"])
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
            Route("/jobs/{job_id:int}/runs/{run_id:int}", run_page),
            Route("/{path:path}", unknown, methods=methods),
        ],
        exception_handlers={ApiError: _api_error, HTTPException: _http_error, Exception: _internal_error},
    )


# -- the APIs, as (method, path after the version) → handler


def _jobs(jobs: Jobs) -> dict[tuple[str, str], Handler]:
    def listed(values: Values) -> Answer:
        found = jobs.list(values.get("name"))
        if not _flag(values, "expand_tasks"):
            found = [job | {"settings": _without(job["settings"], "tasks", "job_clusters")} for job in found]
        return _paged(values, "jobs", found)

    def reset(values: Values) -> Answer:
        jobs.reset(_number(values, "job_id"), _object(values, "new_settings"))
        return {}

    def update(values: Values) -> Answer:
        removed = values.get("fields_to_remove") or []
        jobs.update(_number(values, "job_id"), values.get("new_settings") or {}, removed)
        return {}

    def delete(values: Values) -> Answer:
        jobs.delete(_number(values, "job_id"))
        return {}

    return {
        ("POST", "jobs/create"): lambda values: {"job_id": jobs.create(values)},
        ("GET", "jobs/get"): lambda values: jobs.get(_number(values, "job_id")),
        ("GET", "jobs/list"): listed,
        ("POST", "jobs/reset"): reset,
        ("POST", "jobs/update"): update,
        ("POST", "jobs/delete"): delete,
    }


def _runs(runs: Runs) -> dict[tuple[str, str], Handler]:
    def run_now(values: Values) -> Answer:
        run_id = runs.run_now(_number(values, "job_id"), values)
        return {"run_id": run_id, "number_in_job": runs.get(run_id)["number_in_job"]}

    def listed(values: Values) -> Answer:
        active, completed = _flag(values, "active_only"), _flag(values, "completed_only")
        if active and completed:
            raise ApiError("INVALID_PARAMETER_VALUE", "active_only and completed_only exclude each other.")
        job_id = _number(values, "job_id") if values.get("job_id") else None
        found = runs.list(job_id=job_id, active=True if active else False if completed else None)
        if not _flag(values, "expand_tasks"):
            found = [_without(run, "tasks", "repair_history") for run in found]
        return _paged(values, "runs", found)

    def cancel(values: Values) -> Answer:
        runs.cancel(_number(values, "run_id"))
        return {}

    def cancel_all(values: Values) -> Answer:
        if not values.get("job_id") and not _flag(values, "all_queued_runs"):
            raise ApiError("INVALID_PARAMETER_VALUE", "Missing required field: job_id")
        runs.cancel_all(_number(values, "job_id") if values.get("job_id") else None)
        return {}

    def delete(values: Values) -> Answer:
        runs.delete(_number(values, "run_id"))
        return {}

    return {
        ("POST", "jobs/run-now"): run_now,
        ("POST", "jobs/runs/submit"): lambda values: {"run_id": runs.submit(values)},
        ("POST", "jobs/runs/repair"): lambda values: {
            "repair_id": runs.repair(_number(values, "run_id"), values)
        },
        ("GET", "jobs/runs/get"): lambda values: runs.get(_number(values, "run_id")),
        ("GET", "jobs/runs/get-output"): lambda values: runs.output(_number(values, "run_id")),
        ("GET", "jobs/runs/list"): listed,
        ("POST", "jobs/runs/cancel"): cancel,
        ("POST", "jobs/runs/cancel-all"): cancel_all,
        ("POST", "jobs/runs/delete"): delete,
    }


def _workspace(workspace: Workspace) -> dict[tuple[str, str], Handler]:
    def mkdirs(values: Values) -> Answer:
        workspace.mkdirs(_string(values, "path"))
        return {}

    def write(values: Values) -> Answer:
        content = values.get("content", b"")
        workspace.write(
            _string(values, "path"),
            content if isinstance(content, bytes) else _decoded(content, "content"),
            format_=values.get("format") or "SOURCE",
            language=values.get("language"),
            overwrite=_flag(values, "overwrite"),
        )
        return {}

    def export(values: Values) -> Answer:
        entry = workspace.get(_string(values, "path"))
        if entry.file.is_dir():
            raise ApiError(
                "INVALID_PARAMETER_VALUE", f"{entry.path} is a folder; only notebooks and files are exported."
            )
        kind = (entry.language.suffix if entry.language else entry.file.suffix).lstrip(".")
        return {"content": base64.b64encode(entry.file.read_bytes()).decode(), "file_type": kind}

    def delete(values: Values) -> Answer:
        workspace.delete(_string(values, "path"), recursive=_flag(values, "recursive"))
        return {}

    def listed(values: Values) -> Answer:
        objects = [entry.as_dict() for entry in workspace.list(_string(values, "path"))]
        return {"objects": objects} if objects else {}

    return {
        ("POST", "workspace/mkdirs"): mkdirs,
        ("POST", "workspace/import"): write,
        ("GET", "workspace/export"): export,
        ("POST", "workspace/delete"): delete,
        ("GET", "workspace/list"): listed,
        ("GET", "workspace/get-status"): lambda values: workspace.get(_string(values, "path")).as_dict(),
    }


def _secrets(secrets: SecretScopes) -> dict[tuple[str, str], Handler]:
    def create_scope(values: Values) -> Answer:
        secrets.create_scope(_string(values, "scope"))
        return {}

    def delete_scope(values: Values) -> Answer:
        secrets.delete_scope(_string(values, "scope"))
        return {}

    def put(values: Values) -> Answer:
        given = [name for name in ("string_value", "bytes_value") if name in values]
        if len(given) != 1:
            raise ApiError(
                "INVALID_PARAMETER_VALUE", "Exactly one of string_value and bytes_value must be given."
            )
        value = (
            _decoded(values[given[0]], given[0])
            if given == ["bytes_value"]
            else str(values[given[0]]).encode()
        )
        secrets.put(_string(values, "scope"), _string(values, "key"), value)
        return {}

    def get(values: Values) -> Answer:
        key = _string(values, "key")
        return {"key": key, "value": base64.b64encode(secrets.get(_string(values, "scope"), key)).decode()}

    def delete(values: Values) -> Answer:
        secrets.delete(_string(values, "scope"), _string(values, "key"))
        return {}

    def listed(values: Values) -> Answer:
        keys = secrets.keys(_string(values, "scope"))
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
        asked = _string(values, "cluster_id")
        if asked != cluster["cluster_id"]:
            raise ApiError("INVALID_PARAMETER_VALUE", f"Cluster {asked} does not exist")
        return cluster

    me = {"id": "1", "userName": USER, "displayName": USER, "active": True}
    version = {"key": clusters.describe()["spark_version"], "name": "18.x LTS (Apache Spark 4.1, Scala 2.13)"}
    return {
        ("GET", "clusters/list"): lambda values: {"clusters": [clusters.describe()]},
        ("GET", "clusters/get"): get,
        ("GET", "clusters/spark-versions"): lambda values: {"versions": [version]},
        ("GET", "preview/scim/v2/Me"): lambda values: me,
    }


# -- reading a request


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
        try:
            sent = json.loads(body)
        except ValueError:
            raise ApiError("MALFORMED_REQUEST", "Invalid JSON given in the body of the request.") from None
        if not isinstance(sent, dict):
            raise ApiError(
                "MALFORMED_REQUEST", "Invalid JSON given in the body of the request - expected a map."
            )
        values |= sent
    return values


def _string(values: Values, name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise ApiError("INVALID_PARAMETER_VALUE", f"Missing required field: {name}")
    return value


def _number(values: Values, name: str) -> int:
    value = values.get(name)
    if value is None:
        raise ApiError("INVALID_PARAMETER_VALUE", f"Missing required field: {name}")
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ApiError("INVALID_PARAMETER_VALUE", f"{name} must be a number, not {value!r}") from None


def _object(values: Values, name: str) -> dict[str, Any]:
    value = values.get(name)
    if not isinstance(value, dict):
        raise ApiError("INVALID_PARAMETER_VALUE", f"Missing required field: {name}")
    return value


def _flag(values: Values, name: str) -> bool:
    return str(values.get(name, "")).lower() == "true"


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError("INVALID_PARAMETER_VALUE", f"{name} is not base64") from None


def _without(document: Mapping[str, Any], *keys: str) -> Answer:
    return {key: value for key, value in document.items() if key not in keys}


def _paged(values: Values, name: str, found: list[Answer]) -> Answer:
    """One page; a page token is the number of items before it."""
    limit = _number(values, "limit") if values.get("limit") else _PAGE_SIZE
    if not 1 <= limit <= 100:
        raise ApiError("INVALID_PARAMETER_VALUE", f"limit must be from 1 to 100, not {limit}")
    start = _number(values, "page_token") if values.get("page_token") else 0
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
