"""Where everything lies: the settings that every notebook takes, and the names that follow from them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.utils import AnalysisException

from pinterest_lake.addresses import ENDPOINT, FOLDER, FORMS, quoted
from pinterest_lake.schemas import STREAMS, TOPICS, Source

_DEFAULTS = {
    "storage": "s3://pinterest",
    "prefix": "pinterest",
    "catalog": "",
    "schema": "pinterest",
    "run_id": "manual",
}
_PATTERNS = {
    "storage": (FOLDER, FORMS),
    "prefix": (r"[A-Za-z0-9_-]+", "letters, digits, _ and -"),
    "catalog": (r"[A-Za-z0-9_-]*", "empty, or letters, digits, _ and -"),
    "schema": (r"[A-Za-z0-9_-]+", "letters, digits, _ and -"),
    "run_id": (
        r"(?=.{1,128}\Z)(?:[A-Za-z0-9._+-]|=[0-9A-F]{2})*(?:==[0-9a-f]{64})?",
        "1 to 128 letters, digits, and . _ + -, or other bytes as =3A",
    ),
}


class SettingsError(ValueError):
    """A widget holds a value that cannot be used; the text names it and says what may stand there."""


@dataclass(frozen=True)
class Lake:
    """The storage (bucket, mount or volume) that is read, and the schema that is written.

    Raises SettingsError for a value that is no name, before anything is read or written.
    """

    storage: str
    prefix: str
    catalog: str
    schema: str
    run_id: str

    def __post_init__(self) -> None:
        for name, (pattern, wanted) in _PATTERNS.items():
            _check(name, getattr(self, name), pattern, wanted)
        object.__setattr__(self, "storage", self.storage.rstrip("/"))

    @classmethod
    def from_widgets(cls, dbutils: Any) -> Lake:
        """Declares the common widgets with their defaults and reads them."""
        for name, default in _DEFAULTS.items():
            dbutils.widgets.text(name, default)
        return cls(**{name: dbutils.widgets.get(name).strip() for name in _DEFAULTS})

    @property
    def namespace(self) -> str:
        """The schema, with its catalog where there is one, quoted."""
        return ".".join(f"`{part}`" for part in (self.catalog, self.schema) if part)

    @property
    def progress_path(self) -> str:
        """Object in which the stream job of this schema tells how far it has come."""
        schema = ".".join(part for part in (self.catalog, self.schema) if part)
        return f"{self.storage}/streams/{self.prefix}/{schema}/progress.json"

    def table(self, name: str) -> str:
        """The full, quoted name of a table."""
        return f"{self.namespace}.`{name}`"

    def clean(self, table: str, source: Source) -> str:
        """The short name of the clean table ``table`` (pin, geo or user) that ``source`` fills."""
        return table if source is TOPICS else f"{self.prefix}_{table}_table"

    def feed(self, table: str, source: Source) -> str:
        """The topic or stream that carries the records of ``table``."""
        return f"streaming-{self.prefix}-{table}" if source is STREAMS else f"{self.prefix}.{table}"


def _check(name: str, value: str, pattern: str, wanted: str) -> None:
    if not re.fullmatch(pattern, value):
        raise SettingsError(f"widget {name!r} is {quoted(value)}; it must be {wanted}")


def folder(dbutils: Any, name: str, default: str = "") -> str:
    """Declare a widget that holds a folder, and read it; one without a default may be empty. Raises SettingsError."""
    dbutils.widgets.text(name, default)
    value = str(dbutils.widgets.get(name)).strip()
    if value or default:
        _check(name, value, FOLDER, FORMS)
    return value


def endpoint(dbutils: Any, name: str) -> str:
    """Declare a widget that holds a service's URL, or nothing, and read it. Raises SettingsError."""
    dbutils.widgets.text(name, "")
    value = str(dbutils.widgets.get(name)).strip()
    _check(name, value, f"(?:{ENDPOINT})?", "empty, or a URL without a login or a query")
    return value


def prepare(spark: SparkSession) -> None:
    """Settings the code relies on, for this session: timestamps are naive and never shifted.

    Nor are they written in Parquet's old form of 96 bits, which other readers hold in nanoseconds, where years
    before 1678 and after 2261 have no place. Compute that lets no one set this (serverless) needs no telling.
    """
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    with suppress(AnalysisException):
        spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")


def flag(dbutils: Any, name: str) -> bool:
    """Declares a widget that is ``true`` or ``false`` (the default) and reads it. Raises SettingsError."""
    dbutils.widgets.dropdown(name, "false", ["false", "true"])
    value = dbutils.widgets.get(name).strip().lower()
    if value not in {"true", "false"}:
        raise SettingsError(f"widget {name!r} is {value!r}; it must be 'true' or 'false'")
    return bool(value == "true")
