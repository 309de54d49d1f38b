"""Why a task failed, read off its log as Airflow's API gives it: a list of entries of structured logging."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from include.emulation.terminal import printable

FAILED = "Task failed with exception"
"""Airflow's last word on the exception that ended a try; callbacks may fail after it, and be logged too."""
TRIGGER_FAILED = "Trigger failed:"
MOST_CHARACTERS = 1_000
CAUSE_CHARACTERS = 300
MOST_CAUSES = 3

Entry = dict[str, Any]
Raised = dict[str, Any]
"""An exception as structlog has it: exc_type, exc_value, is_cause, and of a group the chains of its exceptions."""


def why_it_failed(content: Iterable[Any]) -> list[str]:
    """Return the error that the task raised, and its cause in a second line if that says more.

    :param content: the log of one try, oldest first. Only the last failure of it counts.
    """
    entries = [entry for entry in content if isinstance(entry, dict)]
    last = next((entry for entry in reversed(entries) if entry.get("event") == FAILED), None)
    if last is None:
        return [_end_of_process(entries)]
    chain = last.get("error_detail") or []
    if not chain:
        return [FAILED]
    # The exception that was raised comes first, then what it was raised from.
    raised, *causes = chain
    said = _told(raised, MOST_CHARACTERS)
    reasons: dict[str, list[str]] = {}
    for why, what in _causes(raised, causes, entries):
        if (what.partition(": ")[2] or what) not in said:
            reasons.setdefault(why, []).append(what)
    return [said, *(f"{why} {'; '.join(what)}" for why, what in reasons.items())]


def _causes(raised: Raised, causes: Sequence[Raised], entries: Sequence[Entry]) -> Iterator[tuple[str, str]]:
    """Yield where an exception comes from: the trigger, those of a group, the innermost cause that has a message."""
    if str(raised.get("exc_type")).startswith("TaskDeferral"):
        yield from (("because", what) for what in _of_the_trigger(entries))
    for inner, *_ in list(raised.get("exceptions") or [])[:MOST_CAUSES]:
        yield "because", _told(inner, CAUSE_CHARACTERS)
    if spoken := [cause for cause in causes if cause.get("exc_value")]:
        yield (
            "because" if spoken[-1].get("is_cause") else "while handling",
            _told(spoken[-1], CAUSE_CHARACTERS),
        )


def _of_the_trigger(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield the error of a trigger that failed: the task only resumes to fail, and logs the trigger's traceback."""
    told = [str(entry.get("event")) for entry in entries]
    last = next((event for event in reversed(told) if event.startswith(TRIGGER_FAILED)), None)
    if last is not None:
        # What is raised stands behind the last frame, at the margin.
        lines = re.split(r"\n+", last.rpartition("\n  File ")[2])[1:]
        message = "\n".join(line for line in lines if not line.startswith("    "))
        yield printable(message.strip(), CAUSE_CHARACTERS)


def _told(raised: Raised, width: int) -> str:
    kind, value = raised.get("exc_type"), str(raised.get("exc_value") or "").strip()
    return printable(f"{kind}: {value}" if value else kind, width)


def _end_of_process(entries: Sequence[Entry]) -> str:
    """Return how the process of a task ended that raised nothing: killed, or left by itself."""
    facts = ("signal_name", "exit_code", "detail")
    for entry in reversed(entries):
        loud = entry.get("level") in {"error", "critical"} and entry.get("event") != "Task killed!"
        if loud or "exit_code" in entry:
            known = ", ".join(f"{name} {entry[name]}" for name in facts if entry.get(name) is not None)
            if detail := entry.get("error_detail"):
                known = _told(detail[0], CAUSE_CHARACTERS)
            return printable(f"{entry.get('event')}{f' ({known})' if known else ''}", MOST_CHARACTERS)
    return "its log names no error"
