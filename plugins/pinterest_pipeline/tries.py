"""What the tries of a task leave for each other."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context


class TryMemory:
    """
    One value that a try of a task leaves for the next one.

    Airflow clears XComs before a retry, but not the task's state store. That in turn outlives a clear by a person,
    who wants the task done anew: so the value is kept under the number of the first try since then. Where there is no
    store, every try is the first.

    :param context: the task's context.
    :param name: name of the value.
    """

    def __init__(self, context: Context, name: str) -> None:
        ti: Any = context["ti"]
        self._store: Any = context.get("task_state_store")
        self._key = f"{name}-{ti.max_tries - (ti.task.retries or 0) + 1}" if self._store is not None else ""

    def get(self) -> Any:
        """Return the value, or None."""
        return None if self._store is None else self._store.get(self._key)

    def set(self, value: Any) -> None:
        """Keep the value."""
        if self._store is not None:
            self._store.set(self._key, value)

    def forget(self) -> None:
        """Keep it no longer."""
        if self._store is not None:
            self._store.delete(self._key)
