"""Every route with every field of the wrong type, size and depth: an error of Databricks, never 500, and no poison."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from local.databricks.access import Access
from local.databricks.app import application
from local.databricks.clusters import DriverError
from local.databricks.jobs import Jobs, Runs
from local.databricks.secret_scopes import SecretScopes
from local.databricks.store import Store
from local.databricks.workspace import Workspace

TOKEN = "dapi-token"
NOTEBOOK = {"notebook_task": {"notebook_path": "/Shared/n"}, "existing_cluster_id": "warm"}
JOB = {"name": "job", "tasks": [{"task_key": "main", **NOTEBOOK}]}
SOURCE = base64.b64encode(b"1").decode()
CODES = {
    "INVALID_PARAMETER_VALUE",
    "MALFORMED_REQUEST",
    "RESOURCE_DOES_NOT_EXIST",
    "RESOURCE_ALREADY_EXISTS",
    "DIRECTORY_NOT_EMPTY",
    "INVALID_STATE",
    "BAD_REQUEST",
}


class NoClusters:
    """Clusters whose drivers never start."""

    def describe(self) -> dict[str, Any]:
        return {"cluster_id": "warm", "spark_version": "18.x-scala2.13"}

    @asynccontextmanager
    async def driver_for(self, cluster_id: str | None, new_cluster: Any = None) -> AsyncIterator[Any]:
        raise DriverError("no driver here")
        yield


class Api:
    """The application over a folder, called without a socket."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder / "workspace")
        self.store = Store(folder / "state.db")
        clusters: Any = NoClusters()
        self.jobs = Jobs(self.store, "warm")
        self.runs = Runs(
            self.store, self.jobs, clusters, self.workspace, home=folder, url="http://x", cluster_id="warm"
        )
        self.app = application(
            token=TOKEN,
            jobs=self.jobs,
            runs=self.runs,
            workspace=self.workspace,
            secrets=SecretScopes(folder / "secrets.db"),
            clusters=clusters,
            access=Access(),
        )

    async def raw(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        query: str = "",
        content_type: str = "application/json",
    ) -> tuple[int, bytes]:
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("utf-8", "replace"),
            "query_string": query.encode(),
            "headers": [
                (b"authorization", f"Bearer {TOKEN}".encode()),
                (b"content-type", content_type.encode()),
            ],
        }
        messages: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            messages.append(message)

        try:
            await self.app(scope, receive, send)
        except Exception:
            # Starlette answers 500 and raises the error again for the server's log.
            if not messages:
                raise
        return messages[0]["status"], b"".join(m.get("body", b"") for m in messages[1:])

    async def call(self, method: str, path: str, content: Any, **more: str) -> tuple[int, Any]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, answer = await self.raw(method, f"/api/2.2/{path}", body, **more)
        return status, json.loads(answer)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    api = Api(tmp_path)
    yield api
    await api.runs.close()
    api.store.close()


async def refused(api: Api, method: str, path: str, content: Any) -> tuple[int, str]:
    status, answer = await api.call(method, path, content)
    assert answer.keys() == {"error_code", "message"}, (path, content, answer)
    return status, answer["error_code"]


async def all_readable(api: Api) -> None:
    """What is kept can be read by everybody: lists, pages and each item."""
    for path in ("jobs/list", "jobs/runs/list"):
        status, answer = await api.call("GET", path, {"limit": 100, "expand_tasks": True})
        assert status == 200, answer
        for item in answer.get("jobs", []):
            assert (await api.call("GET", "jobs/get", {"job_id": item["job_id"]}))[0] == 200
        for item in answer.get("runs", []):
            page = f"/jobs/{item['job_id']}/runs/{item['run_id']}"
            assert (await api.raw("GET", page))[0] == 200
    assert (await api.raw("GET", "/"))[0] == 200
    assert (await api.call("GET", "workspace/list", {"path": "/Shared"}))[0] == 200


def nested(depth: int, text: bytes) -> bytes:
    return b'{"name": ' + (b"[" if text == b"[" else b'{"a":') * depth


ODD: list[Any] = [
    None,
    True,
    5,
    -5,
    0,
    1.5,
    2**63 - 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**100,
    "",
    "text",
    "5",
    "-5",
    "٥",
    "1_0",
    " 5",
    str(2**63),
    "1" * 5000,
    "x" * 5000,
    "/" + "x" * 5000,
    "/Shared/" + "/".join("d" * 3000),
    "/Shared/" + "x" * 300,
    "/../../x",
    "/Shared/../../../etc/passwd",
    "relative",
    "/",
    "/Shared",
    "/Shared/a\nb",
    "/Shared/\x1b[31m",
    "/Shared/\u202eevil",
    "/Shared/.hidden",
    "/Shared/nul\0",
    "/Shared/\U0001f600",
    "<script>alert(1)</script>",
    "*",
    [],
    [5],
    [None],
    [[]],
    [{}],
    ["text"],
    {},
    {"a": 5},
    {"task_key": "main"},
    [{"task_key": []}],
    [{"task_key": {}}],
    [{"name": 5}],
    [{"task_key": "main"}, {"task_key": "main"}],
]
TASK_FIELDS = [
    "task_key",
    "notebook_task",
    "depends_on",
    "run_if",
    "existing_cluster_id",
    "new_cluster",
    "job_cluster_key",
    "timeout_seconds",
    "max_retries",
    "min_retry_interval_millis",
    "retry_on_timeout",
    "libraries",
]
JOB_FIELDS = [
    "name",
    "tasks",
    "job_clusters",
    "parameters",
    "max_concurrent_runs",
    "timeout_seconds",
    "tags",
    "schedule",
    "format",
]
START_FIELDS = ["job_id", "notebook_params", "job_parameters", "idempotency_token", "queue"]
PAGE_FIELDS = ["limit", "page_token", "offset", "expand_tasks"]

# (method, path, a good body, the fields that are made odd)
ROUTES: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("POST", "jobs/create", JOB, JOB_FIELDS),
    ("POST", "jobs/create", NOTEBOOK, ["notebook_task", "existing_cluster_id", "spark_python_task"]),
    ("POST", "jobs/update", {"job_id": 1001}, ["job_id", "new_settings", "fields_to_remove"]),
    ("POST", "jobs/reset", {"job_id": 1001, "new_settings": JOB}, ["job_id", "new_settings"]),
    ("GET", "jobs/get", {}, ["job_id"]),
    ("GET", "jobs/list", {}, ["name", *PAGE_FIELDS]),
    ("POST", "jobs/delete", {}, ["job_id"]),
    ("POST", "jobs/run-now", {"job_id": 1001}, START_FIELDS),
    (
        "POST",
        "jobs/runs/submit",
        JOB,
        ["run_name", "tasks", "idempotency_token", "timeout_seconds", "job_clusters"],
    ),
    ("POST", "jobs/runs/repair", {"run_id": 1}, ["run_id", "rerun_tasks", "job_parameters"]),
    ("GET", "jobs/runs/get", {}, ["run_id"]),
    ("GET", "jobs/runs/get-output", {}, ["run_id"]),
    ("GET", "jobs/runs/list", {}, ["job_id", "active_only", "completed_only", *PAGE_FIELDS]),
    ("POST", "jobs/runs/cancel", {}, ["run_id"]),
    ("POST", "jobs/runs/cancel-all", {}, ["job_id", "all_queued_runs"]),
    ("POST", "jobs/runs/delete", {}, ["run_id"]),
    ("POST", "workspace/mkdirs", {}, ["path"]),
    (
        "POST",
        "workspace/import",
        {"path": "/Shared/new", "content": SOURCE, "language": "PYTHON", "overwrite": True},
        ["path", "content", "language", "format", "overwrite"],
    ),
    ("GET", "workspace/export", {"path": "/Shared/n"}, ["path", "direct_download", "format"]),
    ("POST", "workspace/delete", {"path": "/Shared/none"}, ["path", "recursive"]),
    ("GET", "workspace/list", {}, ["path"]),
    ("GET", "workspace/get-status", {}, ["path"]),
    ("POST", "secrets/scopes/create", {}, ["scope"]),
    ("POST", "secrets/scopes/delete", {}, ["scope"]),
    (
        "POST",
        "secrets/put",
        {"scope": "s", "key": "k", "string_value": "v"},
        ["scope", "key", "string_value"],
    ),
    ("POST", "secrets/put", {"scope": "s", "key": "k"}, ["bytes_value"]),
    ("GET", "secrets/get", {"scope": "s", "key": "k"}, ["scope", "key"]),
    ("POST", "secrets/delete", {"scope": "s", "key": "k"}, ["scope", "key"]),
    ("GET", "secrets/list", {}, ["scope"]),
    ("GET", "clusters/get", {}, ["cluster_id"]),
]


def bodies(good: dict[str, Any], fields: list[str]) -> Iterator[dict[str, Any]]:
    for field in fields:
        for odd in ODD:
            yield {**good, field: odd}


def task_bodies() -> Iterator[dict[str, Any]]:
    task = JOB["tasks"][0]  # type: ignore[index]
    for field in TASK_FIELDS:
        for odd in ODD:
            yield {**JOB, "tasks": [{**task, field: odd}]}  # type: ignore[dict-item]
    for field in ("notebook_path", "base_parameters", "source"):
        for odd in ODD:
            yield {**JOB, "tasks": [{**task, "notebook_task": {"notebook_path": "/Shared/n", field: odd}}]}  # type: ignore[dict-item]


async def check(api: Api, method: str, path: str, body: dict[str, Any]) -> None:
    status, answer = await api.raw(method, f"/api/2.2/{path}", json.dumps(body).encode())
    assert status in {200, 400, 404}, (path, str(body)[:200], answer[:200])
    if status != 200:
        error = json.loads(answer)
        assert error.keys() == {"error_code", "message"}
        assert error["error_code"] in CODES
        assert len(error["message"]) < 500
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("method", "path", "good", "fields"), ROUTES, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_no_field_of_a_request_breaks_the_workspace(
    method: str, path: str, good: dict[str, Any], fields: list[str], api: Api
) -> None:
    await api.call("POST", "workspace/import", {"path": "/Shared/n", "content": SOURCE, "language": "PYTHON"})
    await api.call("POST", "jobs/create", JOB)
    await api.call("POST", "secrets/scopes/create", {"scope": "s"})
    for body in bodies(good, fields):
        await check(api, method, path, body)
    await all_readable(api)


@pytest.mark.parametrize("path", ["jobs/create", "jobs/runs/submit"])
async def test_no_field_of_a_task_breaks_the_workspace(path: str, api: Api) -> None:
    for body in task_bodies():
        await check(api, "POST", path, body)
    for run in list(api.runs._leading.values()):
        await run
    await all_readable(api)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"5",
        b"null",
        b"[]",
        b'"text"',
        b"\xff",
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1' + b"0" * 5000 + b"}",
        b'{"name": "\\ud83d"}',
        b'{"\\ud83d": 1}',
        *(nested(depth, kind) for depth in (200, 3000, 100_000) for kind in (b"[", b"{")),
        b'{"name": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"name": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"name": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    ],
    ids=lambda body: repr(body[:24]),
)
@pytest.mark.parametrize("path", ["jobs/create", "workspace/mkdirs"])
async def test_a_body_that_is_no_object_is_malformed(path: str, body: bytes, api: Api) -> None:
    assert await refused(api, "POST", path, body) == (400, "MALFORMED_REQUEST")
    await all_readable(api)


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("POST", "workspace/import", {"path": "/Shared/x", "content": 5}, "MALFORMED_REQUEST"),
        ("POST", "workspace/import", {"path": "/Shared/x", "content": None}, "INVALID_PARAMETER_VALUE"),
        ("POST", "workspace/import", {"path": "/Shared/x", "content": "é"}, "INVALID_PARAMETER_VALUE"),
        ("GET", "jobs/get", {"job_id": 2**63}, "INVALID_PARAMETER_VALUE"),
        ("GET", "jobs/runs/get", {"run_id": 2**63}, "INVALID_PARAMETER_VALUE"),
        ("GET", "jobs/runs/get", {"run_id": 1.0}, "INVALID_PARAMETER_VALUE"),
        ("GET", "jobs/runs/get", {"run_id": True}, "INVALID_PARAMETER_VALUE"),
        ("GET", "jobs/runs/list", {"page_token": -5}, "INVALID_PARAMETER_VALUE"),
        ("GET", "jobs/runs/list", {"page_token": "-5"}, "INVALID_PARAMETER_VALUE"),
        ("GET", "jobs/runs/list", {"limit": 101}, "INVALID_PARAMETER_VALUE"),
        ("POST", "jobs/create", {"tasks": [5]}, "MALFORMED_REQUEST"),
        ("POST", "jobs/create", {"tasks": []}, "INVALID_PARAMETER_VALUE"),
        ("POST", "jobs/create", {"name": 5}, "MALFORMED_REQUEST"),
        ("POST", "workspace/mkdirs", {"path": "/" + "x" * 5000}, "INVALID_PARAMETER_VALUE"),
        ("POST", "workspace/mkdirs", {"path": "/Shared" + "/d" * 3000}, "INVALID_PARAMETER_VALUE"),
        ("POST", "workspace/mkdirs", {"path": "/Shared/" + "x" * 300}, "INVALID_PARAMETER_VALUE"),
        ("POST", "workspace/delete", {"path": "/Shared/none"}, "RESOURCE_DOES_NOT_EXIST"),
        ("POST", "secrets/put", {"scope": "s", "key": "k", "string_value": 5}, "MALFORMED_REQUEST"),
        ("GET", "secrets/list", {"scope": "none"}, "RESOURCE_DOES_NOT_EXIST"),
    ],
    ids=str,
)
async def test_the_error_says_what_kind_of_wrong(
    method: str, path: str, body: dict[str, Any], expected: str, api: Api
) -> None:
    status = 404 if expected == "RESOURCE_DOES_NOT_EXIST" else 400
    assert await refused(api, method, path, body) == (status, expected)


@pytest.mark.parametrize("path", ["/../../x", "/Shared/../x", "relative", "/Shared/\x1b", "/" + "x" * 300])
@pytest.mark.parametrize("route", ["jobs/create", "jobs/runs/submit"])
async def test_a_notebook_path_that_cannot_be_is_refused_before_it_runs(
    route: str, path: str, api: Api
) -> None:
    task = {"task_key": "main", "notebook_task": {"notebook_path": path}}
    assert await refused(api, "POST", route, {"tasks": [task]}) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    "page",
    [f"/jobs/{2**63}/runs/{2**63}", "/jobs/1/runs/1", "/jobs/x/runs/y", "/jobs/-1/runs/-1", "/jobs/1/runs/٥"],
)
async def test_a_page_of_no_run_is_an_error_of_the_api(page: str, api: Api) -> None:
    status, answer = await api.raw("GET", page)
    assert (status, json.loads(answer)["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=" + "x" * 300, b"--x--"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="path"; filename="f"\r\n\r\n/Shared/x\r\n--x--\r\n',
        ),
    ],
)
async def test_a_form_that_is_none_is_refused(content_type: str, body: bytes, api: Api) -> None:
    status, answer = await api.raw("POST", "/api/2.0/workspace/import", body, content_type=content_type)
    assert status == 400
    assert json.loads(answer).keys() == {"error_code", "message"}


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW"]
)
@pytest.mark.parametrize(
    "path", ["/api/2.2/none", "/api/2.2/jobs/\n", "/none\n", "/api", "/jobs/1", "//", "/api/2.2/"]
)
async def test_an_unknown_route_is_an_error_of_the_api(method: str, path: str, api: Api) -> None:
    status, answer = await api.raw(method, path)
    assert status in {400, 404, 405}
    assert json.loads(answer).keys() == {"error_code", "message"}
