"""``dbutils``, ``display`` and ``displayHTML`` as a notebook on Databricks finds them."""

from __future__ import annotations

import contextlib
import html
import re
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession

from local.databricks.errors import ApiError
from local.databricks.mounts import MountError, MountTable
from local.databricks.session import MOUNT_LINK

if TYPE_CHECKING:
    from local.databricks.output import Redactor
    from local.databricks.secret_scopes import SecretScopes

FileInfo = namedtuple("FileInfo", "path name size modificationTime")
MountInfo = namedtuple("MountInfo", "mountPoint source encryptionType")
SecretScope = namedtuple("SecretScope", "name")
SecretMetadata = namedtuple("SecretMetadata", "key")

_ROWS_SHOWN = 1000
_WIDTH_SHOWN = 120


class NotebookExit(BaseException):
    """``dbutils.notebook.exit``; not an Exception, so that no handler of a notebook stops it."""

    def __init__(self, value: str) -> None:
        super().__init__(value)
        self.value = value


class InputWidgetNotDefined(Exception):
    """``dbutils.widgets.get`` of a widget that neither the notebook nor its caller has set."""


class ExecutionError(Exception):
    """A ``dbutils`` call that failed; the text starts with the Java exception's name, as on Databricks."""


class Widgets:
    """``dbutils.widgets``. What the run was given wins over the notebook's defaults."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._given = dict(parameters)
        self._declared: dict[str, str] = {}

    def text(self, name: str, defaultValue: str, label: str | None = None) -> None:
        self._declared[name] = str(defaultValue)

    def dropdown(
        self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None
    ) -> None:
        if str(defaultValue) not in map(str, choices):
            raise ValueError(
                f"The default value {defaultValue!r} of widget {name} is not one of {list(choices)}"
            )
        self._declared[name] = str(defaultValue)

    def combobox(
        self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None
    ) -> None:
        self._declared[name] = str(defaultValue)

    def multiselect(
        self, name: str, defaultValue: str, choices: Sequence[str], label: str | None = None
    ) -> None:
        self.dropdown(name, defaultValue, choices, label)

    def get(self, name: str) -> str:
        values = self.getAll()
        if name not in values:
            raise InputWidgetNotDefined(f"No input widget named {name} is defined")
        return values[name]

    def getAll(self) -> dict[str, str]:
        return {**self._declared, **self._given}

    def remove(self, name: str) -> None:
        self._declared.pop(name, None)
        self._given.pop(name, None)

    def removeAll(self) -> None:
        self._declared.clear()
        self._given.clear()


class Secrets:
    """``dbutils.secrets``: what is read is known to the redactor before the notebook has it."""

    def __init__(self, scopes: SecretScopes, redact: Redactor) -> None:
        self._scopes = scopes
        self._redact = redact

    def get(self, scope: str, key: str) -> str:
        return self.getBytes(scope, key).decode("utf-8")

    def getBytes(self, scope: str, key: str) -> bytes:
        with _told_as("java.lang.IllegalArgumentException"):
            value = self._scopes.get(scope, key)
        self._redact.add(value.decode("utf-8", errors="replace"))
        return value

    def list(self, scope: str) -> Sequence[SecretMetadata]:
        with _told_as("java.lang.IllegalArgumentException"):
            return [SecretMetadata(key) for key, _ in self._scopes.keys(scope)]

    def listScopes(self) -> Sequence[SecretScope]:
        return [SecretScope(name) for name in self._scopes.scopes()]


class Files:
    """``dbutils.fs`` over Hadoop's file systems: ``dbfs:/`` and bare paths, ``file:/``, ``s3://``, ``s3a://``."""

    def __init__(self, spark: SparkSession, mounts: MountTable) -> None:
        self._spark = spark
        self._jvm: Any = spark._jvm
        self._table = mounts

    def ls(self, path: str) -> list[FileInfo]:
        with _java_errors():
            fs, target = self._open(path)
            return sorted(self._info(status) for status in fs.listStatus(target))

    def head(self, path: str, maxBytes: int = 65536) -> str:
        with _java_errors():
            fs, target = self._open(path)
            stream = fs.open(target)
            try:
                return bytes(stream.readNBytes(maxBytes)).decode("utf-8", errors="replace")
            finally:
                stream.close()

    def put(self, file: str, contents: str, overwrite: bool = False) -> bool:
        data = contents.encode("utf-8")
        with _java_errors():
            fs, target = self._open(file)
            if not overwrite and fs.exists(target):
                raise ExecutionError(
                    f"org.apache.hadoop.fs.FileAlreadyExistsException: File already exists: {file}"
                )
            stream = fs.create(target, overwrite)
            try:
                stream.write(bytearray(data))
            finally:
                stream.close()
        print(f"Wrote {len(data)} bytes.")
        return True

    def mkdirs(self, dir: str) -> bool:
        with _java_errors():
            fs, target = self._open(dir)
            return bool(fs.mkdirs(target))

    def rm(self, dir: str, recurse: bool = False) -> bool:
        with _java_errors():
            fs, target = self._open(dir)
            return bool(fs.delete(target, recurse))

    def cp(self, source: str, destination: str, recurse: bool = False) -> bool:
        return self._copy(source, destination, recurse, delete=False)

    def mv(self, source: str, destination: str, recurse: bool = False) -> bool:
        return self._copy(source, destination, recurse, delete=True)

    def mount(
        self,
        source: str,
        mountPoint: str | None = None,
        encryptionType: str = "",
        owner: str | None = None,
        extraConfigs: Mapping[str, str] | None = None,
        *,
        mount_point: str | None = None,
        extra_configs: Mapping[str, str] | None = None,
    ) -> bool:
        return self._mount(source, mount_point or mountPoint or "", replace=False)

    def updateMount(self, source: str, mountPoint: str, *_: object, **__: object) -> bool:
        return self._mount(source, mountPoint, replace=True)

    def unmount(self, mountPoint: str) -> bool:
        with _told_as(""):
            point = self._table.remove(mountPoint)
        apply_mounts(self._spark, self._table.read())
        print(f"{point} has been unmounted.")
        return True

    def mounts(self) -> list[MountInfo]:
        root = MountInfo("/", "DatabricksRoot", "sse-s3")
        return [
            root,
            *(MountInfo(point, source.rstrip("/"), "") for point, source in self._table.read().items()),
        ]

    def refreshMounts(self) -> bool:
        apply_mounts(self._spark, self._table.read())
        return True

    def _mount(self, source: str, point: str, *, replace: bool) -> bool:
        with _java_errors():
            fs, root = self._open("dbfs:/")
            fs.getFileStatus(
                root
            )  # refused where the workspace has no DBFS root: then it has no mounts either
        with _told_as(""):
            known = self._table.read()
            point, url = self._table.add(point, source, replace=replace)
        try:
            self.ls(url)  # a bucket that is missing or closed is told here, not at the first read
        except ExecutionError:
            if point in known:
                self._table.add(point, known[point], replace=True)
            else:
                self._table.remove(point)
            raise
        apply_mounts(self._spark, self._table.read())
        return True

    def _copy(self, source: str, destination: str, recurse: bool, *, delete: bool) -> bool:
        with _java_errors():
            from_fs, from_path = self._open(source)
            to_fs, to_path = self._open(destination)
            if from_fs.getFileStatus(from_path).isDirectory() and not recurse:
                raise ExecutionError(
                    f"java.io.IOException: Cannot copy directory {source} unless recurse is set to true"
                )
            util, conf = self._jvm.org.apache.hadoop.fs.FileUtil, self._conf()
            return bool(util.copy(from_fs, from_path, to_fs, to_path, delete, True, conf))

    def _open(self, path: str) -> tuple[Any, Any]:
        target = self._jvm.org.apache.hadoop.fs.Path(path)
        return target.getFileSystem(self._conf()), target

    def _conf(self) -> Any:
        return self._spark._jsc.hadoopConfiguration()  # type: ignore[attr-defined]

    @staticmethod
    def _info(status: Any) -> FileInfo:
        path = status.getPath()
        slash = "/" if status.isDirectory() else ""
        shown = re.sub("^dbfs://root/", "dbfs:/", path.toString())
        size = 0 if slash else status.getLen()
        return FileInfo(shown + slash, path.getName() + slash, size, status.getModificationTime())


def apply_mounts(spark: SparkSession, mounts: Mapping[str, str]) -> None:
    """Makes the driver's mounts these ones."""
    conf = spark._jsc.hadoopConfiguration()  # type: ignore[attr-defined]
    jvm: Any = spark._jvm
    found = conf.getValByRegex("^" + re.escape(MOUNT_LINK))
    applied = {key.removeprefix(MOUNT_LINK): value for key, value in dict(found).items()}
    for point in applied.keys() - mounts.keys():
        conf.unset(MOUNT_LINK + point)
    for point, source in mounts.items():
        conf.set(MOUNT_LINK + point, source)
    if applied != dict(mounts):
        jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()  # it knows tables by their paths


class TaskValues:
    """``dbutils.jobs.taskValues``: small values that tasks of one job run hand on."""

    def __init__(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        self._known = known
        self.set_here: dict[str, Any] = {}

    def set(self, key: str, value: Any) -> None:
        self.set_here[key] = value

    def get(self, taskKey: str, key: str, default: Any = None, debugValue: Any = None) -> Any:
        values = self._known.get(taskKey, {})
        if key not in values and default is None:
            raise ValueError(f"Task key does not exist in run, or it has no value {key!r}: {taskKey}")
        return values.get(key, default)


class Notebook:
    """``dbutils.notebook``."""

    def __init__(self, run: Callable[[str, Mapping[str, str]], str], context: Mapping[str, str]) -> None:
        self._run = run
        getters = {
            name: (lambda value=value: SimpleNamespace(get=lambda: value)) for name, value in context.items()
        }
        inner = SimpleNamespace(getContext=lambda: SimpleNamespace(**getters))
        self.entry_point = SimpleNamespace(getDbutils=lambda: SimpleNamespace(notebook=lambda: inner))

    def exit(self, value: object) -> None:
        raise NotebookExit(str(value))

    def run(self, path: str, timeout_seconds: int = 0, arguments: Mapping[str, str] | None = None) -> str:
        return self._run(path, arguments or {})


class DBUtils:
    """``dbutils``: the parts notebooks of jobs use."""

    def __init__(
        self, *, widgets: Widgets, secrets: Secrets, fs: Files, notebook: Notebook, values: TaskValues
    ) -> None:
        self.widgets = widgets
        self.secrets = secrets
        self.fs = fs
        self.notebook = notebook
        self.jobs = SimpleNamespace(taskValues=values)


def display(shown: Any = None, *_: object, **__: object) -> None:
    """Prints a table of at most 1,000 rows; a plot or a stream gets one line that says so."""
    if isinstance(shown, DataFrame):
        print("<a stream: it is not shown>" if shown.isStreaming else table_text(shown), flush=True)
    elif hasattr(shown, "to_string"):
        print(shown.to_string(max_rows=_ROWS_SHOWN))
    elif isinstance(shown, (list, tuple)):
        print("\n".join(map(repr, shown[:_ROWS_SHOWN])))
    elif hasattr(shown, "savefig"):
        print("<a plot: it is not shown>")
    elif shown is not None:
        print(shown)


def display_html(text: str = "", *_: object, **__: object) -> None:
    """Prints the text of the HTML."""
    print(html.unescape(re.sub(r"<[^>]*>", "", text)).strip())


def table_text(frame: DataFrame) -> str:
    """The first rows as a ruled table."""
    text = frame._show_string(_ROWS_SHOWN, _WIDTH_SHOWN, False)  # type: ignore[operator]
    return str(text).rstrip("\n")


@contextlib.contextmanager
def _java_errors() -> Iterator[None]:
    """A Java exception, without its stack of our calls."""
    try:
        yield
    except Py4JJavaError as error:
        raise ExecutionError(error.java_exception.toString()) from None


@contextlib.contextmanager
def _told_as(java: str) -> Iterator[None]:
    try:
        yield
    except (ApiError, MountError) as error:
        raise ExecutionError(f"{java}: {error}" if java else str(error)) from None
