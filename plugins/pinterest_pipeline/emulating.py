"""What the DAGs that emulate posts share."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from pinterest_pipeline.exceptions import RecordsFailed

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10


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


def checked(report: dict[str, Any], ti: Any) -> dict[str, Any]:
    """
    Push the emulator's report as XCom ``report``, so that it stays even if the task fails; return it.

    :raises RecordsFailed: records were not acknowledged.
    """
    ti.xcom_push(key="report", value=report)
    for table, counts in report["tables"].items():
        log.info("%s: %s", table, ", ".join(f"{count} {name}" for name, count in counts.items()))
    failed = sum(counts["failed"] for counts in report["tables"].values())
    if failed:
        raise RecordsFailed(failed, report["failures"])
    return report
