"""Notebooks in Databricks' source format: what the cells are, and where one notebook names another.

The format is a text file whose first line is a header. ``# COMMAND ----------`` parts the cells; a cell whose
lines start with ``# MAGIC`` is written in another language or calls a command (``%sql``, ``%md``, ``%run`` …).
SQL notebooks are the same with ``--`` for ``#``. Below the header may stand, between ``# /// script`` and ``# ///``,
the environment that serverless compute is to run the notebook in; it belongs to no cell.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath


class Language(StrEnum):
    """The languages the workspace keeps notebooks in."""

    PYTHON = "PYTHON"
    SQL = "SQL"

    @property
    def suffix(self) -> str:
        return {Language.PYTHON: ".py", Language.SQL: ".sql"}[self]

    @property
    def comment(self) -> str:
        return {Language.PYTHON: "#", Language.SQL: "--"}[self]

    @property
    def header(self) -> str:
        return f"{self.comment} Databricks notebook source"


class NotebookError(Exception):
    """The text is no notebook, or a cell asks for what this workspace cannot do."""


@dataclass(frozen=True)
class Cell:
    """One cell: its number from 1, its kind (``python``, ``sql``, ``md``, ``run``, ``pip`` …) and its text."""

    number: int
    kind: str
    text: str


def language_of(source: str) -> Language | None:
    """The language of a notebook, or None when the text is a plain file."""
    first = source.lstrip("\ufeff").partition("\n")[0].rstrip()
    return next((language for language in Language if first == language.header), None)


def parse(source: str) -> list[Cell]:
    """The cells that hold anything, in order. Raises NotebookError when the header is missing."""
    language = language_of(source)
    if language is None:
        raise NotebookError(f"not a notebook: the first line is not {Language.PYTHON.header!r}")
    body = source.replace("\r\n", "\n").partition("\n")[2]
    body = re.sub(
        rf"\A{language.comment} /// script\n(?:{language.comment}.*\n)*?{language.comment} ///\n", "", body
    )
    parts = re.split(rf"^{language.comment} COMMAND -+[ \t]*$", body, flags=re.MULTILINE)
    return [cell for number, part in enumerate(parts, 1) if (cell := _cell(number, part, language))]


def _cell(number: int, part: str, language: Language) -> Cell | None:
    title = f"{language.comment} DBTITLE"
    text = "\n".join(line for line in part.split("\n") if not line.startswith(title)).strip("\n")
    if not text.strip():
        return None
    magic = f"{language.comment} MAGIC"
    if not text.lstrip().startswith(magic):
        return Cell(number, language.value.lower(), text)
    lines = [re.sub(rf"^{magic} ?", "", line) for line in text.strip().split("\n")]
    command = re.match(r"%(\w+)[ \t]*\n?(.*)", "\n".join(lines), re.DOTALL)
    if command is None:
        return Cell(number, "md", "\n".join(lines))
    return Cell(number, command[1], command[2])


def resolve(path: str, beside: str) -> str:
    """The workspace path that ``%run`` or ``dbutils.notebook.run`` means, seen from the notebook ``beside``."""
    absolute = PurePosixPath(beside).parent / path.strip()
    parts: list[str] = []
    for part in absolute.parts[1:]:
        if part == "..":
            del parts[-1:]
        elif part != ".":
            parts.append(part)
    return "/" + "/".join(parts)


def run_arguments(text: str) -> tuple[str, dict[str, str]]:
    """``./configure $schema="x" $day="1"`` → the path and the widgets it sets."""
    try:
        path, *pairs = shlex.split(text)
    except ValueError as error:
        raise NotebookError(f"%run {text.strip()}: {error}") from None
    arguments = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name.startswith("$") and equals):
            raise NotebookError(f'%run {text.strip()}: expected $name="value", found {pair!r}')
        arguments[name[1:]] = value
    return path, arguments


_SQL_TOKEN = re.compile(
    r"""
      '(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `[^`]*`     # quoted
    | --[^\n]* | /\*.*?\*/                                # comments
    | ;
    """,
    re.VERBOSE | re.DOTALL,
)


def sql_statements(text: str) -> Iterator[str]:
    """The statements of a SQL cell: parted by semicolons outside of quotes and comments."""
    start = 0
    ends = [match.start() for match in _SQL_TOKEN.finditer(text) if match[0] == ";"]
    for end in [*ends, len(text)]:
        statement = text[start:end].strip()
        if re.sub(r"--[^\n]*|/\*.*?\*/", "", statement, flags=re.DOTALL).strip():
            yield statement
        start = end + 1
