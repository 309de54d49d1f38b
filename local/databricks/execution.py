"""Runs one notebook: its cells in a fresh namespace and a session of its own, its errors told as its own."""

from __future__ import annotations

import ast
import contextlib
import ctypes
import json
import linecache
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any

from pyspark.sql import SparkSession

from local.databricks import notebook, utilities
from local.databricks.mounts import MountTable
from local.databricks.notebook import Cell, NotebookError
from local.databricks.output import Redactor, Router, RunLog
from local.databricks.secret_scopes import SecretScopes
from local.databricks.workspace import Workspace

_HERE = str(Path(__file__).parent)
_LARGEST_ERROR = 20_000
_RESULT_LIMIT = 5 * 1024 * 1024


class RunCancelled(BaseException):
    """Thrown into a notebook's thread to end it; not an Exception, so that no handler of a notebook stops it."""


@dataclass(frozen=True)
class Request:
    """What the server asks a driver to run.

    ``log`` is the file for what it prints; ``task_values`` are those that other tasks of the job run have set.
    """

    run_id: int
    path: str
    parameters: dict[str, str]
    log: str
    task_values: dict[str, dict[str, Any]] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """How a run ended: ``success``, ``failed`` or ``canceled``, with what it gave back or why it failed."""

    state: str
    result: str | None = None
    truncated: bool = False
    error: str | None = None
    error_trace: str | None = None
    task_values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Shared:
    """What all runs of a driver share."""

    spark: SparkSession
    workspace: Workspace
    secrets: SecretScopes
    mounts: MountTable
    redact: Redactor
    stdout: Router
    prepare_session: Callable[[SparkSession], None]


class NotebookRun:
    """One run. ``execute`` blocks until it is over; ``cancel`` may be called from any other thread."""

    def __init__(self, shared: Shared, request: Request) -> None:
        self._shared = shared
        self._request = request
        self._log = RunLog(Path(request.log), shared.redact)
        self._values = utilities.TaskValues(request.task_values)
        self._group = f"run-{request.run_id}"
        self._spark = shared.spark.newSession()
        self._outcome = Outcome("failed", error="The notebook did not start.")
        self._thread = threading.Thread(target=self._work, name=self._group, daemon=True)
        self._started = threading.Event()
        self._cancelled = threading.Event()

    def execute(self) -> Outcome:
        """Runs the notebook to its end and cleans up after it."""
        self._thread.start()
        self._started.set()
        self._thread.join()
        # From here on, never from the notebook's thread: a cancel may have cut one of its calls to the JVM short.
        self._stop_streams()
        self._shared.stdout.release(self._log)
        self._log.close()
        self._outcome.task_values = self._values.set_here
        if self._cancelled.is_set():
            self._outcome.state = "canceled"
        return self._outcome

    def cancel(self) -> None:
        """Ends the run: its streams, its Spark jobs, then its Python code, again until it gives in."""
        self._cancelled.set()
        self._started.wait()
        while self._thread.is_alive():
            self._stop_streams()
            self._shared.spark.sparkContext.cancelJobGroup(self._group)
            thread = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(RunCancelled))
            self._thread.join(1)

    def _work(self) -> None:
        self._shared.stdout.claim(self._log)
        context = self._shared.spark.sparkContext
        try:
            context.setJobGroup(self._group, self._request.path, interruptOnCancel=True)
            context.setLocalProperty("spark.scheduler.pool", self._group)
            self._outcome = self._run()
        except RunCancelled:
            self._outcome = Outcome("canceled")
        except BaseException as error:
            self._outcome = self._failed(error)

    def _run(self) -> Outcome:
        session = _Session(self._shared, self._spark, self._values, self._request.context)
        result = session.run(self._request.path, self._request.parameters)
        self._await_streams()
        if result is None:
            return Outcome("success")
        result = self._shared.redact(result)
        return Outcome("success", result=result[:_RESULT_LIMIT], truncated=len(result) > _RESULT_LIMIT)

    def _await_streams(self) -> None:
        """A run is not over while its streams are; a stream that fails fails the run."""
        while self._spark.sparkContext._jsc is not None and (active := self._spark.streams.active):
            for query in active:
                query.awaitTermination(1)

    def _stop_streams(self) -> None:
        with contextlib.suppress(Exception):
            for query in self._spark.streams.active:
                query.stop()

    def _failed(self, error: BaseException) -> Outcome:
        message, trace = describe(error, self._shared.workspace.root)
        message, trace = self._shared.redact(message), self._shared.redact(trace)
        self._log.write(trace)
        return Outcome("failed", error=message, error_trace=trace)


class _Session:
    """The namespace of one notebook and of those it includes with ``%run``."""

    def __init__(
        self, shared: Shared, spark: SparkSession, values: utilities.TaskValues, context: Mapping[str, str]
    ) -> None:
        self._shared = shared
        self._spark = spark
        self._values = values
        self._context = context

    def run(self, path: str, parameters: Mapping[str, str]) -> str | None:
        """Runs the cells and returns the value of ``dbutils.notebook.exit``."""
        self._activate()
        self._shared.prepare_session(self._spark)
        self._widgets = utilities.Widgets(parameters)
        self._path = path
        dbutils = utilities.DBUtils(
            widgets=self._widgets,
            secrets=utilities.Secrets(self._shared.secrets, self._shared.redact),
            fs=utilities.Files(self._spark, self._shared.mounts),
            notebook=utilities.Notebook(self._run_other, {**self._context, "notebookPath": path}),
            values=self._values,
        )
        self._names: dict[str, Any] = {
            "__name__": "__main__",
            "spark": self._spark,
            "sc": self._spark.sparkContext,
            "sql": self._spark.sql,
            "table": self._spark.table,
            "dbutils": dbutils,
            "display": utilities.display,
            "displayHTML": utilities.display_html,
            "getArgument": self._widgets.get,
        }
        self._fs = dbutils.fs
        try:
            self._cells(path)
        except utilities.NotebookExit as exit_:
            return exit_.value
        return None

    def _run_other(self, path: str, arguments: Mapping[str, str]) -> str:
        """``dbutils.notebook.run``: a notebook of its own, in a session of its own, whose failure is ours."""
        other = _Session(self._shared, self._spark.newSession(), self._values, self._context)
        given = {key: str(value) for key, value in arguments.items()}
        try:
            return other.run(notebook.resolve(path, self._path), given) or ""
        finally:
            self._activate()

    def _activate(self) -> None:
        """Makes this the session that Spark and Delta mean by the active one, which is a matter of the thread."""
        jvm: Any = self._spark._jvm
        jvm.SparkSession.setActiveSession(self._spark._jsparkSession)

    def _cells(self, path: str) -> None:
        entry = self._shared.workspace.find(path)
        if entry is None or entry.language is None:
            raise NotebookError(f"Unable to access the notebook {path!r}: it does not exist.")
        for cell in notebook.parse(entry.file.read_text(encoding="utf-8")):
            self._cell(cell, path)

    def _cell(self, cell: Cell, path: str) -> None:
        match cell.kind:
            case "python":
                self._python(cell, path)
            case "sql":
                self._sql(cell.text)
            case "run":
                included, arguments = notebook.run_arguments(cell.text)
                for name, value in arguments.items():
                    self._widgets.text(name, value)
                self._cells(notebook.resolve(included, path))
            case "fs":
                command, *arguments_ = cell.text.split()
                utilities.display(getattr(self._fs, command)(*arguments_))
            case "md":
                pass
            case "pip":
                print(f"%pip {cell.text.strip()}: left out, the packages of this environment are pinned")
            case other:
                raise NotebookError(f"%{other} in cell {cell.number} of {path} is not supported here")

    def _python(self, cell: Cell, path: str) -> None:
        for code, is_value in _compiled(cell.text, f"{path}, cell {cell.number}"):
            value = eval(code, self._names)  # noqa: S307 - running the notebook is what this is for
            if is_value and value is not None:
                print(repr(value))

    def _sql(self, text: str) -> None:
        for statement in notebook.sql_statements(text):
            named = re.search(r"(?<![:\w]):[A-Za-z_]\w*", statement)
            frame = self._spark.sql(statement, args=self._widgets.getAll() if named else None)
            self._names["_sqldf"] = frame
            if frame.columns:
                utilities.display(frame)


def _compiled(source: str, name: str) -> Iterator[tuple[CodeType, bool]]:
    """The code of a cell, and of its last line when that is a value to show."""
    lines = source.splitlines(keepends=True)
    linecache.cache[name] = (len(source), None, lines, name)  # so that a traceback shows the notebook's lines
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    yield compile(tree, name, "exec"), False
    if isinstance(last, ast.Expr):
        yield compile(ast.Expression(last.value), name, "eval"), not source.rstrip().endswith(";")


def describe(error: BaseException, workspace: Path) -> tuple[str, str]:
    """The error in a few lines, and its traceback: the notebook's frames and its libraries', not ours."""
    told = traceback.TracebackException.from_exception(error)
    _leave_ours_out(told, set())
    trace = "".join(told.format()).replace(str(workspace), "/Workspace")
    message = "".join(told.format_exception_only()).strip()
    message = message.partition("\n\tat ")[0]  # the stack of the JVM says nothing to the notebook's author
    if isinstance(error, NotebookError):
        message = message.partition(": ")[2]
    return message[:_LARGEST_ERROR], _shortened(trace)


def _leave_ours_out(told: traceback.TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    told.stack[:] = [frame for frame in told.stack if not frame.filename.startswith(_HERE)]
    for other in (told.__cause__, told.__context__):
        if other is not None:
            _leave_ours_out(other, seen)


def _shortened(trace: str) -> str:
    """Without all but the first lines of the JVM's stacks."""
    trace = re.sub(r"((?:\n\tat [^\n]*){8})(?:\n\tat [^\n]*)+", r"\1\n\t…", trace)
    return (
        trace
        if len(trace) <= _LARGEST_ERROR
        else trace[: _LARGEST_ERROR // 2] + "\n…\n" + trace[-_LARGEST_ERROR // 2 :]
    )


def sleep_in_slices() -> None:
    """Lets a cancel reach a notebook that sleeps: a thread only notices one between two steps of Python."""
    whole = time.sleep

    def sleep(seconds: Any, /) -> None:
        end = time.monotonic() + seconds
        whole(min(seconds, 0.2))
        while (left := end - time.monotonic()) > 0:
            whole(min(left, 0.2))

    time.sleep = sleep


def as_json(outcome: Outcome) -> dict[str, Any]:
    """The outcome as it travels; task values that are no JSON are refused where they were set.

    The API answers in UTF-8, so half of a surrogate pair in what a notebook says is an escape.
    """
    told = {
        name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in outcome.__dict__.items()
    }
    return json.loads(json.dumps(told, default=str))  # type: ignore[no-any-return]
