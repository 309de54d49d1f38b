"""ministack's state on disk as it changes: what has been answered outlives a kill.

ministack writes the state of its services when it ends in order. Objects of S3 are files, and streams have a store of
their own (streams.py); what is left is small: stacks, roles, secrets, settings of buckets.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from ministack import app
from ministack.core import persistence
from ministack.services import cloudformation

from local.aws.front import SERVICE
from local.sigv4 import header

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

READS = ("Get", "List", "Describe")


class Durable:
    """ministack as an ASGI app that writes what a request has changed before it answers.

    :param folder: where ministack looks for its state.
    :param save_streams: writes the streams that CloudFormation has made or removed.
    """

    def __init__(self, folder: Path, save_streams: Callable[[], None]) -> None:
        self._folder = folder
        self._save_streams = save_streams
        self._written: dict[str, int] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _may_change(scope):
            await app.app(scope, receive, send)
            return

        async def written(message: Message) -> None:
            # What a stack has of resources is whole when it is made: a kill before that finds the state before.
            if message["type"] == "http.response.start" and not _is_deploying():
                self._write()
            await send(message)

        await app.app(scope, receive, written)

    def _write(self) -> None:
        self._save_streams()
        for name, get_state in app._build_persistence_save_dict().items():
            wrapped = {
                "__ministack_format__": persistence._state_format_version(name),
                "payload": get_state(),
            }
            text = json.dumps(wrapped, default=persistence._json_default)
            if self._written.get(name) != hash(text):
                file = self._folder / f"{name}.json"
                part = file.with_suffix(".part")
                part.write_text(text)
                Path(part).replace(file)
                self._written[name] = hash(text)


def _may_change(scope: MutableMapping[str, Any]) -> bool:
    """Whether a request can change more than objects and streams."""
    match scope.get(SERVICE):
        case "s3":
            bucket, _, key = scope["path"].strip("/").partition("/")
            return scope["method"] in {"PUT", "DELETE"} and bool(bucket) and not key
        case None | "kinesis" | "sts":
            return False
        case _:
            action = (header(scope, "x-amz-target") or "").rpartition(".")[2]
            return not action.startswith(READS)


def _is_deploying() -> bool:
    states = {stack.get("StackStatus", "") for stack in cloudformation._stacks._data.values()}
    return any(state.endswith("_IN_PROGRESS") for state in states - {"REVIEW_IN_PROGRESS"})
