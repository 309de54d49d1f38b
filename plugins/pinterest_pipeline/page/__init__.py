"""The pipeline's page: the last published answers and the ledger of their run."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

__all__ = ["Page"]


class Page:
    """
    The page as an ASGI app that is built at its first request.

    Airflow loads plug-ins in every task process too, which must not import the web server for a page it never shows.
    """

    @cached_property
    def app(self) -> FastAPI:
        """The app itself."""
        from pinterest_pipeline.page.app import create_app

        return create_app()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        await self.app(scope, receive, send)
