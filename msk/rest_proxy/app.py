"""The HTTP side of the proxy: Confluent REST v2's routes, codes and bodies, as an ASGI application.

POST /topics/{topic}   produce JSON records
GET  /topics           names of the topics that are served
GET  /topics/{topic}   configs and partitions
GET  /                 health: 200 when Kafka answers, else 503 (needs no login)
"""

from __future__ import annotations

import base64
import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import unquote

import msgspec

from msk.rest_proxy.records import NotJsonError, NotRecordsError, parse
from msk.rest_proxy.topics import Ack, KafkaAwayError, Outcome, Topics, UnknownTopicError

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON_V2 = "application/vnd.kafka.json.v2+json"
ANSWER_V2 = "application/vnd.kafka.v2+json"
_UNKNOWN_TOPIC = 40401
_FINAL, _RETRIABLE = 1, 2


@dataclass(frozen=True)
class Reply:
    """What is sent back."""

    status: int
    body: object
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, *, error_code: int | None = None, **headers: str) -> None:
        super().__init__(message)
        self.reply = Reply(
            status,
            {"error_code": error_code or status, "message": message},
            {name.replace("_", "-"): value for name, value in headers.items()},
        )


class RestProxy:
    """The ASGI application.

    :param served: names of the topics that callers may use; ``*`` stands for any text. A name that begins with
        ``_`` is Kafka's or Connect's own and never served.
    :param login: (username, password), or None for an open proxy.
    """

    def __init__(
        self,
        topics: Topics,
        *,
        max_body_bytes: int,
        max_buffered_bytes: int,
        served: Sequence[str] = ("*",),
        login: tuple[str, str] | None = None,
    ) -> None:
        self._topics = topics
        self._served = served
        self._max_body_bytes = max_body_bytes
        self._max_buffered_bytes = max_buffered_bytes
        self._buffered_bytes = 0
        self._authorization = _basic_authorization(*login) if login else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, or the application's start and stop."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await _send_reply(await self._answer(scope, receive), scope["method"], send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self._topics.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._topics.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        try:
            return await self._route(scope, receive)
        except HttpError as error:
            return error.reply
        except UnknownTopicError:
            return HttpError(404, "Topic not found.", error_code=_UNKNOWN_TOPIC).reply
        except KafkaAwayError as error:
            log.warning("%s %s: %s", scope["method"], scope["path"], error)
            return HttpError(503, str(error), retry_after="1").reply
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            return HttpError(500, "Internal server error: see the proxy's log.").reply

    async def _route(self, scope: Scope, receive: Receive) -> Reply:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        # The raw path, because a topic's name is one segment whatever is escaped in it.
        raw_path = scope.get("raw_path") or scope["path"].encode()
        segments = [unquote(part) for part in raw_path.split(b"?")[0].decode("latin-1").strip("/").split("/")]
        if segments != [""]:
            self._check_login(headers)
        match scope["method"], segments:
            case (("GET" | "HEAD"), [""]):
                await self._topics.names()
                return Reply(200, {"kafka": "answers"})
            case (("GET" | "HEAD"), ["topics"]):
                return Reply(200, [name for name in await self._topics.names() if self._serves(name)])
            case (("GET" | "HEAD"), ["topics", topic]):
                self._check_served(topic)
                return Reply(200, await self._topics.describe(topic))
            case "POST", ["topics", topic]:
                self._check_served(topic)
                return await self._produce(topic, headers, receive)
            case method, ([""] | ["topics"] | ["topics", _]):
                raise HttpError(405, f"HTTP 405 Method Not Allowed: {method}")
        raise HttpError(404, "HTTP 404 Not Found")

    def _check_login(self, headers: Mapping[str, str]) -> None:
        if self._authorization is None:
            return
        given = headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, self._authorization):
            raise HttpError(401, "HTTP 401 Unauthorized", www_authenticate='Basic realm="kafka"')

    def _serves(self, topic: str) -> bool:
        return not topic.startswith("_") and any(fnmatchcase(topic, pattern) for pattern in self._served)

    def _check_served(self, topic: str) -> None:
        if not self._serves(topic):
            raise UnknownTopicError(topic)

    async def _produce(self, topic: str, headers: Mapping[str, str], receive: Receive) -> Reply:
        content_type = headers.get("content-type", "").split(";")[0].strip().lower()
        if content_type != JSON_V2:
            raise HttpError(415, f"HTTP 415 Unsupported Media Type: send {JSON_V2}")
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise HttpError(415, "HTTP 415 Unsupported Media Type: send the body without Content-Encoding")
        room = _Room(self)
        try:
            body = await self._read_body(headers, receive, room)
            records = parse(body)
            outcomes = await self._topics.produce(topic, records)
        except NotJsonError as error:
            raise HttpError(400, f"Malformed JSON: {error}") from error
        except NotRecordsError as error:
            raise HttpError(422, str(error)) from error
        finally:
            room.leave()
        return Reply(200, _produced(outcomes))

    async def _read_body(self, headers: Mapping[str, str], receive: Receive, room: _Room) -> bytes:
        announced = headers.get("content-length", "")
        if announced.isdecimal():
            self._check_size(int(announced))
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise HttpError(400, "The client went away.")
            chunk = message.get("body", b"")
            room.take(len(chunk))
            body += chunk
            self._check_size(len(body))
            if not message.get("more_body"):
                return bytes(body)

    def _check_size(self, size: int) -> None:
        if size > self._max_body_bytes:
            raise HttpError(413, f"The body is larger than {self._max_body_bytes} bytes.", connection="close")


class _Room:
    """One request's share of the memory for bodies that are being read or written."""

    def __init__(self, proxy: RestProxy) -> None:
        self._proxy = proxy
        self._taken = 0

    def take(self, size: int) -> None:
        if self._proxy._buffered_bytes + size > self._proxy._max_buffered_bytes:
            raise HttpError(503, "Too many requests at once: send this one again.", retry_after="1")
        self._proxy._buffered_bytes += size
        self._taken += size

    def leave(self) -> None:
        self._proxy._buffered_bytes -= self._taken
        self._taken = 0


def _produced(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {"offsets": [_offset(each) for each in outcomes], "key_schema_id": None, "value_schema_id": None}


def _offset(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Ack):
        return {"partition": outcome.partition, "offset": outcome.offset, "error_code": None, "error": None}
    code = _RETRIABLE if outcome.retriable else _FINAL
    return {"partition": None, "offset": None, "error_code": code, "error": outcome.reason}


def _basic_authorization(username: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{username}:{password}".encode())


async def _send_reply(reply: Reply, method: str, send: Send) -> None:
    body = msgspec.json.encode(reply.body)
    headers = {"content-type": ANSWER_V2, "content-length": str(len(body)), **reply.headers}
    await send({
        "type": "http.response.start",
        "status": reply.status,
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
    })
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
