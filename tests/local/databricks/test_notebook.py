"""The source format: cells, paths, arguments and statements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.databricks.notebook import (
    Cell,
    Language,
    NotebookError,
    language_of,
    parse,
    resolve,
    run_arguments,
    sql_statements,
)

HEADER = "# Databricks notebook source\n"


def test_cells_keep_their_kind_their_text_and_their_number() -> None:
    source = HEADER + (
        "# DBTITLE 1,A title\nx = 1\n\n\nprint(x)\n\n"
        "# COMMAND ----------\n\n# MAGIC %md\n# MAGIC # Heading\n# MAGIC\n# MAGIC text\n\n"
        "# COMMAND ----------\n\n\n"
        "# COMMAND ----------\n\n# MAGIC %sql SELECT 1\n\n"
        '# COMMAND ----------\n\n# MAGIC %run ./other $a="b"\n'
    )
    assert parse(source) == [
        Cell(1, "python", "x = 1\n\n\nprint(x)"),
        Cell(2, "md", "# Heading\n\ntext"),
        Cell(4, "sql", "SELECT 1"),
        Cell(5, "run", './other $a="b"'),
    ]


def test_the_environment_of_serverless_compute_belongs_to_no_cell() -> None:
    environment = '# /// script\n# [tool.databricks.environment]\n# environment_version = "5"\n# ///\n'
    cells = [Cell(1, "md", "# Heading"), Cell(2, "python", "x = 1")]
    below = "# MAGIC %md\n# MAGIC # Heading\n\n# COMMAND ----------\n\nx = 1\n"
    assert parse(HEADER + environment + below) == cells
    assert parse((HEADER + environment + below).replace("\n", "\r\n")) == cells
    assert parse(HEADER + below) == cells
    assert [cell.kind for cell in parse(HEADER + "x = 1\n" + environment)] == ["python"], (
        "a comment like any other"
    )


def test_windows_line_ends_and_a_cell_mark_inside_a_string_of_one_line() -> None:
    source = HEADER + "a = 1\n# COMMAND ----------\nb = '# COMMAND ----------'\n"
    assert [cell.text for cell in parse(source.replace("\n", "\r\n"))] == [
        "a = 1",
        "b = '# COMMAND ----------'",
    ]


def test_a_sql_notebook_has_sql_cells_and_its_own_comments() -> None:
    source = (
        "-- Databricks notebook source\nSELECT 1\n-- COMMAND ----------\n-- MAGIC %python\n-- MAGIC x = 1\n"
    )
    assert language_of(source) is Language.SQL
    assert parse(source) == [Cell(1, "sql", "SELECT 1"), Cell(2, "python", "x = 1")]


@pytest.mark.parametrize("source", ["", "x = 1\n", "\n" + HEADER, "# databricks notebook source\n"])
def test_a_text_without_the_header_is_no_notebook(source: str) -> None:
    assert language_of(source) is None
    with pytest.raises(NotebookError, match="not a notebook"):
        parse(source)


@given(st.lists(st.text("ab =(\n)#%'\"", min_size=1), max_size=6))
def test_no_line_of_code_is_lost_or_made_up(cells: list[str]) -> None:
    source = HEADER + "\n# COMMAND ----------\n".join(cells)
    lines = [line for cell in parse(source) for line in cell.text.split("\n") if line.strip()]
    assert lines == [line for cell in cells for line in cell.split("\n") if line.strip()]


@pytest.mark.parametrize(
    ("path", "beside", "expected"),
    [
        ("./other", "/Shared/a/notebook", "/Shared/a/other"),
        ("other", "/Shared/a/notebook", "/Shared/a/other"),
        ("../lib/x", "/Shared/a/notebook", "/Shared/lib/x"),
        ("/Users/me/x", "/Shared/a/notebook", "/Users/me/x"),
        ("../../../../x", "/Shared/a/notebook", "/x"),
        (" ./other ", "/Shared/a/notebook", "/Shared/a/other"),
    ],
)
def test_paths_are_seen_from_the_notebook(path: str, beside: str, expected: str) -> None:
    assert resolve(path, beside) == expected


def test_arguments_of_run() -> None:
    assert run_arguments(' ./x $a="1 2" $b=c ') == ("./x", {"a": "1 2", "b": "c"})
    with pytest.raises(NotebookError, match="expected"):
        run_arguments("./x a=1")
    with pytest.raises(NotebookError, match="No closing quotation"):
        run_arguments('./x $a="1')


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT ';' ; SELECT `a;b` FROM t;", ["SELECT ';'", "SELECT `a;b` FROM t"]),
        ("-- only; a comment\n", []),
        (
            "SELECT 1 -- one; of them\n, 2; /* a; b */ SELECT 3",
            ["SELECT 1 -- one; of them\n, 2", "/* a; b */ SELECT 3"],
        ),
        (r"SELECT 'it\'s;'; SELECT 2", [r"SELECT 'it\'s;'", "SELECT 2"]),
        (";;", []),
    ],
)
def test_statements_end_at_semicolons_outside_of_quotes_and_comments(
    text: str, statements: list[str]
) -> None:
    assert list(sql_statements(text)) == statements
