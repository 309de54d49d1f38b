"""The page's routes. Airflow leaves a plugin's routes open to anyone, so each asks for a user itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.api_fastapi.core_api.security import get_user
from botocore.exceptions import BotoCoreError, ClientError
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from pinterest_pipeline.config import Settings
from pinterest_pipeline.exceptions import SettingError
from pinterest_pipeline.hooks.answers import AnswersHook
from pinterest_pipeline.page.missing import missing_note
from pinterest_pipeline.page.render import render_answers, render_note

log = logging.getLogger(__name__)

# Nothing on the page loads or runs anything, whatever the data holds.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

OVERDUE = timedelta(hours=26)
"""A day, and the time that a slow batch takes; the alarm batch-overdue rings then."""
NOT_PUBLISHED = (
    "No answers have been published yet. They appear here when a run of the DAG pinterest_daily_batch has "
    "finished; that DAG reads what pinterest_msk_ingestion has landed in the bucket."
)


def read_published() -> dict[str, Any] | None:
    """Return what was published last, or None if nothing was."""
    return AnswersHook(bucket=Settings.read().bucket).read()


def old_note(published: Mapping[str, Any], now: datetime) -> list[str]:
    """Return what the page says of answers that should have been followed by newer ones; nothing for others."""
    age = now - datetime.fromisoformat(published["generated_at"]).astimezone(UTC)
    if age < OVERDUE:
        return []
    return [
        f"These answers are {age // timedelta(hours=1)} hours old. pinterest_daily_batch publishes new ones every "
        "night: look whether it is switched on, and how its last run went."
    ]


def create_app(read: Callable[[], dict[str, Any] | None] = read_published) -> FastAPI:
    """
    Return the page as an app.

    :param read: returns what was published last, or None.
    """
    app = FastAPI(
        title="Pinterest pipeline",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(get_user)],
    )

    @app.get("/", response_class=HTMLResponse, dependencies=[Depends(get_user)])
    def answers() -> HTMLResponse:
        notes = missing_note()
        try:
            published = read()
            if published:
                page = render_answers(published, [*notes, *old_note(published, datetime.now(UTC))])
            else:
                page = render_note(NOT_PUBLISHED, notes)
            status = 200
        except SettingError as error:
            page, status = render_note(f"The pipeline is not set up: {error}", notes), 500
        except (BotoCoreError, ClientError) as error:
            log.warning("The published answers cannot be read: %s", error)
            page, status = render_note(f"The bucket does not answer: {error}", notes), 502
        except (KeyError, TypeError, ValueError) as error:
            log.warning("answers/latest.json is not what it should be: %r", error)
            page = render_note(f"answers/latest.json is not what it should be: {error!r}", notes)
            status = 502
        return HTMLResponse(page, status_code=status, headers=HEADERS)

    return app
