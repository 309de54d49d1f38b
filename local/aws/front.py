"""The one door of the AWS stand-in: whatever is not signed with the stack's key pair ends here.

ministack can check signatures itself (AUTH=true), but takes its root key and a few fixed ones unchecked, and the
stack's pair is its root key. So the check is ours (local/sigv4.py) and ministack sees what has passed.
"""

import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from local.aws.chunked import ChunkSignatures
from local.aws.errors import TooLarge, refusal
from local.aws.kafka_connect import KafkaConnectRoutes
from local.aws.s3_requests import RefusedRequest, check_request
from local.sigv4 import PayloadMismatch, SignatureError, Signed, Verifier, WrongScope, header

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

SERVICE = "aws.service"
"""Key of the ASGI scope by which the app behind the front learns what service a request is signed for."""
HEALTH_PATH = "/_ministack/health"
# ministack holds a body in memory while it takes it, so there is an end to what one request may bring. Clients
# cut larger objects into parts (boto3 from 8 MiB, s3a from 64 MiB).
LARGEST_BODY = 512 * 1024**2
# Without a stated hash the body has to be held to be checked. Kinesis' largest request is 10 MiB of records in base64.
LARGEST_HELD_BODY = 16 * 1024**2
# A refused upload is read to its end when it is this short, so that its connection can be used again.
DRAINED = 1024**2


class Front:
    """An ASGI app that lets signed requests through to `aws`, or to `kafka_connect` when they are signed for it.

    :param service_of: the service that an X-Amz-Target header addresses in `aws`; None where it addresses none.
    """

    def __init__(
        self,
        verifier: Verifier,
        aws: App,
        kafka_connect: KafkaConnectRoutes,
        service_of: Callable[[str], str | None],
    ) -> None:
        self._verifier = verifier
        self._aws = aws
        self._service_of = service_of
        self._kafka_connect = kafka_connect

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with self._kafka_connect:
                await self._aws(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        elif scope["path"] == HEALTH_PATH and scope["method"] == "GET":
            await self._aws(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        body = Body(receive)
        answer = Answer(send)
        try:
            body.expect(scope)
            signed = await self._verified(scope, body)
            self._check_service(scope, signed)
            if signed.service == "s3":
                check_request(scope, signed)
            if signed.service == "kafkaconnect":
                await (await self._kafka_connect.answer(scope))(scope, body.receive, answer.send)
            else:
                await self._aws({**scope, SERVICE: signed.service}, body.receive, answer.send)
        except (SignatureError, TooLarge, RefusedRequest) as error:
            if answer.started:
                raise
            await body.drain(scope)
            await refusal(scope, error)(scope, body.receive, send)

    def _check_service(self, scope: MutableMapping[str, Any], signed: Signed) -> None:
        """A signature for S3 may leave the body out; it must not open a service whose calls lie in the body."""
        target = header(scope, "x-amz-target")
        if target is not None and (service := self._service_of(target)) != signed.service:
            raise WrongScope(f"Credential should be scoped to correct service: '{service or 'unknown'}'.")

    async def _verified(self, scope: MutableMapping[str, Any], body: "Body") -> Signed:
        if header(scope, "x-amz-content-sha256") is None and header(scope, "authorization") is not None:
            return self._verifier.verify(scope, await body.hold())
        signed = self._verifier.verify(scope)
        if signed.covers_body:
            body.check(signed.payload_hash)
        elif signed.signs_chunks:
            body.check_chunks(ChunkSignatures(signed))
        return signed


class Answer:
    """Remembers whether an answer has begun: after that no other can be sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.started = False

    async def send(self, message: Message) -> None:
        self.started = True
        await self._send(message)


class Body:
    """A request's body on its way through: bounded, and compared with its signed hash where there is one."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._held: bytes | None = None
        self._expected: str | None = None
        self._chunks: ChunkSignatures | None = None
        self._digest = hashlib.sha256()
        self._size = 0
        self._ended = False

    def expect(self, scope: MutableMapping[str, Any]) -> None:
        """Refuse a body whose announced length is too large before any of it is read."""
        announced = header(scope, "content-length") or "0"
        if announced.isdecimal() and int(announced) > LARGEST_BODY:
            raise TooLarge(f"A request may carry {LARGEST_BODY} bytes; send larger objects in parts.")

    def check(self, payload_hash: str) -> None:
        """Compare the body with this SHA-256 at its end."""
        self._expected = payload_hash

    def check_chunks(self, chunks: ChunkSignatures) -> None:
        """Compare each chunk of the body with its signature."""
        self._chunks = chunks

    async def hold(self) -> bytes:
        """Read the whole body now; `receive` gives it again."""
        chunks = []
        while not self._ended:
            message = await self._next(LARGEST_HELD_BODY)
            if message["type"] == "http.disconnect":
                break
            chunks.append(message.get("body", b""))
        self._held = b"".join(chunks)
        return self._held

    async def receive(self) -> Message:
        if self._held is not None:
            body, self._held = self._held, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._ended:
            return await self._receive()
        message = await self._next(LARGEST_BODY)
        if self._expected is not None and message["type"] == "http.request":
            self._digest.update(message.get("body", b""))
            if self._ended and self._digest.hexdigest() != self._expected:
                raise PayloadMismatch
        if self._chunks is not None and message["type"] == "http.request":
            self._chunks.update(message.get("body", b""))
            if self._ended:
                self._chunks.finish()
        return message

    async def drain(self, scope: MutableMapping[str, Any]) -> None:
        """Read what is left of a short body. A client that waits to be told to send it is told nothing."""
        announced = header(scope, "content-length") or ""
        if header(scope, "expect") or not announced.isdecimal() or int(announced) > DRAINED:
            return
        while not self._ended and (await self._next(DRAINED))["type"] == "http.request":
            pass

    async def _next(self, largest: int) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._size > largest:
                raise TooLarge(f"A request of this kind may carry {largest} bytes.")
        return message
