"""What the DAGs that emulate posts share."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from airflow.sdk import Context, Param

from pinterest_pipeline.exceptions import ParametersRefused, RecordsFailed
from pinterest_pipeline.params import number_param
from pinterest_pipeline.tries import TryMemory

log = logging.getLogger(__name__)

EMULATE_TIMEOUT = timedelta(hours=4)
EMULATE_SPARE = timedelta(minutes=10)
"""For what `emulate` does besides: it starts, checks the source and waits for the last answers."""
LONG_SECONDS = 2 * 365 * 24 * 3600
SECONDS_BETWEEN_LINES = 10
MOST_POSTS = 1_000_000
LARGEST_SEED = 9_000_000_000_000_000
"""Below 2**53, up to which JavaScript, and so Airflow's interface, has every whole number."""


def emulation_params(*, fewest: int, note: str = "") -> dict[str, Param]:
    """Return the parameters of a DAG that emulates at least ``fewest`` posts; ``note`` is added to ``posts``."""
    return {
        "posts": number_param(
            500,
            type="integer",
            bounds={"minimum": fewest, "maximum": MOST_POSTS},
            title="Posts",
            description_md=(
                f"Number of posts to draw, {fewest} to {MOST_POSTS:,}; each sends up to three records. {note}"
            ).rstrip(),
        ),
        "seed": number_param(
            100,
            type="integer",
            bounds={"minimum": -LARGEST_SEED, "maximum": LARGEST_SEED},
            title="Seed",
            description_md="Seed of the random generator: the same seed draws the same posts.",
        ),
        "order": Param(
            "classic",
            type="string",
            enum=["classic", "sequential"],
            title="Order",
            description_md=(
                "**classic** draws at random, with replacement; **sequential** reads each post once, by number."
            ),
        ),
        "rate": number_param(
            None,
            type=["null", "number"],
            bounds={"exclusiveMinimum": 0, "maximum": MOST_POSTS},
            title="Posts per second",
            description_md="For example 0.5. Empty: as fast as the API accepts them.",
        ),
    }


def refuse_endless(params: Mapping[str, Any]) -> None:
    """
    Refuse a run whose posts cannot be sent within `emulate`'s time.

    :param params: the run's parameters.
    :raises ParametersRefused: they cannot.
    """
    posts, rate = params["posts"], params["rate"]
    allowed = (EMULATE_TIMEOUT - EMULATE_SPARE).total_seconds()
    needed = posts / rate if rate else 0
    if needed > allowed:
        raise ParametersRefused(
            f"{posts:.0f} posts at {rate:g} a second take {_hours(needed)}, more than the {_hours(allowed)} "
            "that emulate has for them. Send fewer, or faster. Nothing was done."
        )


def _hours(seconds: float) -> str:
    if seconds > LONG_SECONDS:
        return "years"
    minutes = math.ceil(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02}"


def log_progress() -> Callable[[Any], None]:
    """Return a function for the emulator to call with its report; it logs every few seconds."""
    started = last = time.monotonic()

    def progress(report: Any) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES or report.drawn == report.posts:
            last = now
            log.info(
                "%d of %d posts drawn, %d record(s) acknowledged, %d failed, in %.0f s",
                report.drawn,
                report.posts,
                report.acknowledged,
                report.failed,
                now - started,
            )

    return progress


class EmulationProgress:
    """
    Keeps what was sent before anything failed: a retry goes on from there.

    What followed is sent again, which changes nothing: the newest record of a post wins.

    :param context: the task's context.
    """

    def __init__(self, context: Context) -> None:
        self._ti = context["ti"]
        self._memory = TryMemory(context, "report")
        self._log = log_progress()
        self._kept_at = time.monotonic()
        self._whole: dict[str, Any] | None = None
        self.resumed: dict[str, Any] | None = self._memory.get()
        if self.resumed:
            log.info("An earlier try has sent %d posts.", self.resumed["tables"]["pin"]["drawn"])

    def __call__(self, report: Any) -> None:
        """Take the emulator's report after a batch; log it and keep it every few seconds."""
        self._log(report)
        if not report.failed:
            self._whole = report.as_dict()
        if time.monotonic() - self._kept_at >= SECONDS_BETWEEN_LINES or report.drawn == report.posts:
            self._keep()

    def account(self, report: Any) -> None:
        """Take the report of a run that an exception ends."""
        push_report(report.as_dict(), self._ti)
        self._keep()

    def _keep(self) -> None:
        self._kept_at = time.monotonic()
        if self._whole:
            self._memory.set(self._whole)


def push_report(report: dict[str, Any], ti: Any) -> None:
    """
    Push the emulator's report as XCom ``report``, so that it stays even if the task fails.

    A retry clears the XComs of the try before; the counts of every try are in its log, and the last one's are whole.
    """
    for table, counts in report["tables"].items():
        log.info("%s: %s", table, ", ".join(f"{count} {name}" for name, count in counts.items()))
    ti.xcom_push(key="report", value=report)


def checked(report: dict[str, Any], ti: Any, *, retriable: bool = True) -> dict[str, Any]:
    """
    Push the emulator's report and return it.

    :param retriable: whether another try may help at least one of the failures.
    :raises RecordsFailed: records were not acknowledged.
    """
    push_report(report, ti)
    failed = sum(counts["failed"] for counts in report["tables"].values())
    if failed:
        raise RecordsFailed(failed, report["failures"], retriable=retriable)
    return report
