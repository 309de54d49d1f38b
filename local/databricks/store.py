"""Jobs, runs and their outputs in one SQLite file, so that they outlive the server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Document = dict[str, Any]

_TABLES = """
CREATE TABLE IF NOT EXISTS numbers (last INTEGER);
CREATE TABLE IF NOT EXISTS jobs (job_id INTEGER PRIMARY KEY, document TEXT);
CREATE TABLE IF NOT EXISTS runs (
    run_id INTEGER PRIMARY KEY, job_id INTEGER, active INTEGER, submitted INTEGER, token TEXT, document TEXT
);
CREATE INDEX IF NOT EXISTS runs_of_a_job ON runs (job_id);
CREATE UNIQUE INDEX IF NOT EXISTS run_of_a_token ON runs (token);
CREATE TABLE IF NOT EXISTS tasks (task_run_id INTEGER PRIMARY KEY, run_id INTEGER);
CREATE TABLE IF NOT EXISTS outputs (task_run_id INTEGER PRIMARY KEY, document TEXT);
"""


class Store:
    """Documents by their numbers. Used from the server's one thread only."""

    def __init__(self, file: Path) -> None:
        file.touch(mode=0o600)
        self._db = sqlite3.connect(file, autocommit=True)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_TABLES)
        if self._one("SELECT last FROM numbers") is None:
            self._db.execute("INSERT INTO numbers VALUES (1000)")

    def close(self) -> None:
        self._db.close()

    def next_number(self) -> int:
        """A number no job, run or task run has had."""
        return int(self._one("UPDATE numbers SET last = last + 1 RETURNING last"))

    def save_job(self, job: Document) -> None:
        self._db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (job["job_id"], json.dumps(job)))

    def job(self, job_id: int) -> Document | None:
        return self._document("SELECT document FROM jobs WHERE job_id = ?", job_id)

    def jobs(self) -> list[Document]:
        """All jobs, newest first."""
        return list(self._documents("SELECT document FROM jobs ORDER BY job_id DESC"))

    def delete_job(self, job_id: int) -> None:
        self._db.execute("DELETE FROM jobs WHERE job_id = ?", (job_id,))

    def save_run(self, run: Document, *, active: bool) -> None:
        values = {
            "run_id": run["run_id"],
            "job_id": run["job_id"],
            "active": active,
            "submitted": run["run_type"] == "SUBMIT_RUN",
            "token": run.get("idempotency_token"),
            "document": json.dumps(run),
        }
        self._db.execute(
            "INSERT OR REPLACE INTO runs VALUES (:run_id, :job_id, :active, :submitted, :token, :document)",
            values,
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO tasks VALUES (?, ?)",
            [(task["run_id"], run["run_id"]) for task in run["tasks"]],
        )

    def run(self, run_id: int) -> Document | None:
        return self._document("SELECT document FROM runs WHERE run_id = ?", run_id)

    def run_of_task(self, task_run_id: int) -> Document | None:
        """The run that a task run belongs to."""
        query = "SELECT document FROM runs JOIN tasks USING (run_id) WHERE task_run_id = ?"
        return self._document(query, task_run_id)

    def run_of_token(self, token: str) -> int | None:
        found = self._one("SELECT run_id FROM runs WHERE token = ?", token)
        return None if found is None else int(found)

    def runs(self, *, job_id: int | None = None, active: bool | None = None) -> list[Document]:
        """Runs, newest first."""
        query = (
            "SELECT document FROM runs WHERE (:job_id IS NULL OR job_id = :job_id)"
            " AND (:active IS NULL OR active = :active) ORDER BY run_id DESC"
        )
        rows = self._db.execute(query, {"job_id": job_id, "active": active})
        return [json.loads(document) for (document,) in rows]

    def delete_run(self, run: Document) -> None:
        tasks = [*run["tasks"], *run.get("earlier_attempts", [])]
        self._db.executemany("DELETE FROM outputs WHERE task_run_id = ?", [(t["run_id"],) for t in tasks])
        self._db.execute("DELETE FROM tasks WHERE run_id = ?", (run["run_id"],))
        self._db.execute("DELETE FROM runs WHERE run_id = ?", (run["run_id"],))

    def save_output(self, task_run_id: int, output: Document) -> None:
        self._db.execute("INSERT OR REPLACE INTO outputs VALUES (?, ?)", (task_run_id, json.dumps(output)))

    def output(self, task_run_id: int) -> Document:
        return self._document("SELECT document FROM outputs WHERE task_run_id = ?", task_run_id) or {}

    def _one(self, query: str, *values: object) -> Any:
        row = self._db.execute(query, values).fetchone()
        return None if row is None else row[0]

    def _document(self, query: str, *values: object) -> Document | None:
        found = self._one(query, *values)
        return None if found is None else json.loads(found)

    def _documents(self, query: str) -> Iterator[Document]:
        return (json.loads(document) for (document,) in self._db.execute(query))
