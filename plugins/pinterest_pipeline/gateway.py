"""The one client of the pipeline's API: records to topics and to streams, and the streams themselves.

``produce`` and ``put_records`` answer for every record they were given: an acknowledgement or a
:class:`Failure`, in the order of the records. They never raise for what the other side does.

How records travel:

- A request holds at most 500 records and as many bytes as Kinesis and API Gateway take.
- **A request holds at most one record of a key, and the next record of that key waits until the former is
  acknowledged or has failed for good.** Neither PutRecords nor a resent part of a request promises an order;
  this way none is needed, and versions of a post arrive as they were sent.
- What failed for a passing reason (a throttled entry inside a 200, 429, 5xx, no answer, an answer that makes
  no sense) is sent again, and only that. Where no trustworthy answer came, the record may then exist twice, and the
  first try may even be carried out after the second. Everything behind this API keeps the newest version of a post, and
  takes the last one written for it. **So the next record of such a key waits until the doubtful try can no longer be
  carried out**: 30 seconds, also from one call of a client to the next. Another client, or process, does not know.
- A request that is refused for what is in it (400, 413, 422, ValidationException) is sent again in halves, so that
  only the record at fault fails.
- Tries are bounded: `max_attempts` requests in a row that settle nothing end the call. Between them lies
  exponential backoff with full jitter.
- A shard takes 1,000 records or 1 MB a second. What is over that comes back throttled, and as long as it does, the
  pauses grow to most of a second: so the records go out about as fast as the shards take them.

Errors of the calls about streams themselves::

    GatewayError
    ├── CredentialsRefused      403
    ├── StreamNotFound
    └── StreamInUse             exists already, or is not active yet
"""

from __future__ import annotations

import heapq
import json
import logging
import math
import random
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlsplit

import botocore.session
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from requests.auth import AuthBase

from pinterest_pipeline.printable import printable
from pinterest_pipeline.redaction import quoted

__all__ = [
    "CredentialsRefused",
    "Failure",
    "GatewayClient",
    "GatewayError",
    "StreamAck",
    "StreamInUse",
    "StreamNotFound",
    "TopicAck",
]

logger = logging.getLogger(__name__)

MAX_RECORDS = 500
MAX_RECORD_BYTES = 1024 * 1024
"""Kinesis: data and partition key of one record."""
MAX_REQUEST_BYTES = 5 * 1024 * 1024
"""Kinesis: data and partition keys of one request."""
MAX_BODY_BYTES = 10_000_000
"""API Gateway: the body of one request."""

FIRST_BACKOFF_SECONDS = 0.1
LONGEST_BACKOFF_SECONDS = 5.0
STRAINED_ATTEMPTS = 4
"""While a part of each request gets through, pauses grow no further than after so many attempts: 0.8 s."""
DOUBT_SECONDS = 30
"""A request without a trustworthy answer is carried out in this time or not at all: API Gateway waits 29 s for Kinesis,
and the REST proxy 20 s for Kafka, before it throws away what it still holds."""
EXCERPT_LENGTH = 200

KAFKA_JSON = "application/vnd.kafka.json.v2+json"
KAFKA_RETRIABLE = {2, 50003}
"""Per-record codes of a REST proxy that say "send it again": v2's own, and what later versions put there."""

AWS_THROTTLED = {
    "KMSThrottlingException",
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
}
AWS_RETRIABLE = AWS_THROTTLED | {"InternalFailure", "InternalServerError", "ServiceUnavailable"}
AWS_CONTENT_REFUSED = {"InvalidArgumentException", "SerializationException", "ValidationException"}
HTTP_CONTENT_REFUSED = {400, 413, 422}


@dataclass(frozen=True)
class TopicAck:
    """Where Kafka keeps the record."""

    partition: int
    offset: int


@dataclass(frozen=True)
class StreamAck:
    """Where Kinesis keeps the record. Sequence numbers are decimal text of up to 56 digits."""

    shard_id: str
    sequence_number: str


@dataclass(frozen=True)
class Failure:
    """Why a record was not acknowledged. `status` is None when no answer came, or nothing was sent."""

    status: int | None
    code: str
    reason: str
    retriable: bool = field(default=False, compare=False)
    """Whether another try may help: the reason may pass, and only the patience of this call has ended."""


Record = tuple[int | str, Mapping[str, Any]]


class GatewayError(Exception):
    """The API did not do what was asked. `reason` is an excerpt of its answer."""

    def __init__(
        self,
        status: int | None,
        code: str,
        reason: str,
        *,
        retriable: bool = False,
        content_refused: bool = False,
    ) -> None:
        super().__init__(reason if status is None else f"HTTP {status} {code}: {reason}")
        self.status = status
        self.code = code
        self.reason = reason
        self.retriable = retriable
        self.content_refused = content_refused


class CredentialsRefused(GatewayError):
    """403: unsigned, wrongly signed, or not allowed."""


class StreamNotFound(GatewayError):
    """There is no stream of that name."""


class StreamInUse(GatewayError):
    """The stream exists already, or is being created, changed or deleted."""


class GatewayClient:
    """Speaks to one deployed stage of the API over one kept-alive session. Not for use by several threads.

    :param invoke_url: the stage's address, such as ``https://….execute-api.us-east-1.amazonaws.com/prod``
    :param credentials: botocore credentials that sign each request (SigV4)
    :param region: the region of the API
    :param timeout_seconds: for connecting, and again for the answer
    :param max_attempts: requests in a row that may settle nothing
    :param sleep: waits so many seconds between attempts
    :param clock: tells seconds that only grow
    :param jitter: draws from [0, 1)
    """

    def __init__(
        self,
        invoke_url: str,
        credentials: Credentials | None,
        region: str,
        *,
        timeout_seconds: float = 30,
        max_attempts: int = 10,
        session: requests.Session | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        address = urlsplit(invoke_url)
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise ValueError(
                f"The API's address must look like https://host/stage, not {quoted(invoke_url)}."
            )
        if credentials is None:
            raise ValueError(
                "No AWS credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE."
            )
        if max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, not {max_attempts}.")
        self._invoke_url = invoke_url.rstrip("/")
        self._auth = _SigV4(credentials, region)
        self._timeout_seconds = timeout_seconds
        self._max_attempts = max_attempts
        self._session = session or requests.Session()
        self._sleep = sleep
        self._clock = clock
        self._doubts: dict[tuple[str, str], float] = {}
        self._jitter = jitter

    @classmethod
    def from_environment(cls, invoke_url: str, region: str | None = None, **options: Any) -> GatewayClient:
        """A client with the credentials, and unless given the region, of botocore's usual chain."""
        session = botocore.session.get_session()
        region = region or session.get_config_variable("region") or "us-east-1"
        return cls(invoke_url, session.get_credentials(), region, **options)

    def close(self) -> None:
        self._session.close()

    def produce(self, topic: str, records: Sequence[Record]) -> list[TopicAck | Failure]:
        """Send (key, value) pairs to a topic; one result for each, in their order."""
        path = f"/topics/{quote(topic, safe='')}"

        def send(batch: list[_Entry]) -> list[TopicAck | Failure | _Again]:
            answer = self._call("POST", path, _join(batch), KAFKA_JSON)
            return [_topic_result(item) for item in _items(answer, "offsets", len(batch))]

        entries = [_topic_entry(i, key, value) for i, (key, value) in enumerate(records)]
        return self._deliver(f"topic {topic}", entries, send)

    def put_records(self, stream: str, records: Sequence[Record]) -> list[StreamAck | Failure]:
        """Put (partition key, data) pairs on a stream; one result for each, in their order."""
        path = f"/streams/{quote(stream, safe='')}/records"

        def send(batch: list[_Entry]) -> list[StreamAck | Failure | _Again]:
            answer = self._call("PUT", path, _join(batch))
            return [_stream_result(item) for item in _items(answer, "Records", len(batch))]

        entries = [_stream_entry(i, key, data) for i, (key, data) in enumerate(records)]
        return self._deliver(f"stream {stream}", entries, send)

    def put_record(self, stream: str, key: int | str, data: Mapping[str, Any]) -> StreamAck | Failure:
        """Put one record on a stream by the API's single-record method."""
        path = f"/streams/{quote(stream, safe='')}/record"
        entry = _stream_entry(0, key, data)

        def send(_: list[_Entry]) -> list[StreamAck | Failure | _Again]:
            body = {"StreamName": stream, "Data": data, "PartitionKey": str(key)}
            return [_stream_result(self._call("PUT", path, _json(body)))]

        results: list[StreamAck | Failure] = self._deliver(f"stream {stream}", [entry], send)
        return results[0]

    def list_streams(self) -> list[str]:
        """Names of the streams, as many as one ListStreams answer holds (100)."""
        answer = self._call_patiently("GET", "/streams")
        names = answer.get("StreamNames")
        if not isinstance(names, list):
            raise _nonsense(200, "no StreamNames")
        return [str(name) for name in names]

    def describe_stream(self, name: str) -> dict[str, Any]:
        """DescribeStream's StreamDescription, with `StreamStatus` and `Shards`."""
        answer = self._call_patiently("GET", f"/streams/{quote(name, safe='')}")
        description = answer.get("StreamDescription")
        if not isinstance(description, dict):
            raise _nonsense(200, "no StreamDescription")
        return description

    def create_stream(self, name: str, shard_count: int = 1) -> None:
        """Begin to create a stream. It takes records once its status is ACTIVE.

        :raises StreamInUse: it exists, perhaps by an earlier try of this call whose answer was lost
        """
        self._call_patiently("POST", f"/streams/{quote(name, safe='')}", _json({"ShardCount": shard_count}))

    def delete_stream(self, name: str) -> None:
        """Begin to delete a stream and all that is in it."""
        self._call_patiently("DELETE", f"/streams/{quote(name, safe='')}")

    def _deliver[Ack](
        self,
        target: str,
        entries: list[_Entry],
        send: Callable[[list[_Entry]], list[Ack | Failure | _Again]],
    ) -> list[Ack | Failure]:
        """Send until each entry has an acknowledgement or a failure.

        When that is interrupted, the exception has what is known by then as `results`, None for the rest.
        """
        results: dict[int, Ack | Failure] = {}
        try:
            self._deliver_into(results, target, entries, send)
        except BaseException as error:
            error.results = [results.get(entry.position) for entry in entries]  # type: ignore[attr-defined]
            raise
        return [results[entry.position] for entry in entries]

    def _deliver_into[Ack](
        self,
        results: dict[int, Ack | Failure],
        target: str,
        entries: list[_Entry],
        send: Callable[[list[_Entry]], list[Ack | Failure | _Again]],
    ) -> None:
        queue = _Queue(entries, results, lambda key: self._doubts.get((target, key), -math.inf))
        fruitless = strained = 0
        while batch := self._next(queue):
            outcomes = _outcomes(send, batch)
            if outcomes is None:
                queue.divide(batch)
                continue
            self._note_doubts(target, batch, outcomes)
            again = [outcome for outcome in outcomes if isinstance(outcome, _Again)]
            fruitless = fruitless + 1 if len(again) == len(batch) else 0
            strained = strained + 1 if again else 0
            tired = fruitless >= self._max_attempts
            for entry, outcome in zip(batch, outcomes, strict=True):
                if not isinstance(outcome, _Again):
                    results[entry.position] = outcome
                    queue.settled(entry)
                elif tired:
                    results[entry.position] = replace(outcome.failure, retriable=True)
                    queue.settled(entry)
                else:
                    queue.again(entry)
            if tired:
                # The service itself is away: what still waits would only repeat these tries, one by one.
                for entry in queue.drain():
                    results[entry.position] = replace(again[0].failure, retriable=True)
            elif again:
                attempt = fruitless or min(strained, STRAINED_ATTEMPTS)
                self._back_off(attempt, f"{len(again)} of {len(batch)} records", again[0].failure)

    def _next(self, queue: _Queue) -> list[_Entry]:
        """Take the next request's entries, if need be after waiting for the first of those that are held back."""
        batch = queue.take(self._clock())
        if not batch and (until := queue.held_until()) is not None:
            seconds = max(0.0, until - self._clock())
            logger.info("waiting %.0f s, until no earlier version of the next records can arrive", seconds)
            self._sleep(seconds)
            batch = queue.take(until)
        return batch

    def _note_doubts(self, target: str, batch: list[_Entry], outcomes: Sequence[Any]) -> None:
        """Remember how long the next record of each key has to wait that may still arrive."""
        now = self._clock()
        self._doubts = {key: until for key, until in self._doubts.items() if until > now}
        for entry, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, _Again) and outcome.in_doubt:
                self._doubts[target, entry.key] = now + DOUBT_SECONDS

    def _call_patiently(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        for attempt in range(1, self._max_attempts + 1):
            try:
                return self._call(method, path, body)
            except GatewayError as error:
                if not error.retriable or attempt == self._max_attempts:
                    raise
                self._back_off(attempt, f"{method} {path}", _failure(error))
        raise AssertionError("max_attempts is at least 1")

    def _back_off(self, attempt: int, what: str, failure: Failure) -> None:
        longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** min(attempt - 1, 16))
        logger.warning(
            "%s sent again, try %d of %d: %s", what, attempt + 1, self._max_attempts, failure.reason
        )
        self._sleep(longest * self._jitter())

    def _call(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """One request. Its answer is a JSON object, or a GatewayError that knows whether to ask again."""
        try:
            response = self._session.request(
                method,
                self._invoke_url + path,
                data=body,
                headers={"Content-Type": content_type, "Accept": "application/json, */*"},
                auth=self._auth,
                timeout=self._timeout_seconds,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise self._silence(error) from error
        return _answer(response)

    def _silence(self, error: requests.RequestException) -> GatewayError:
        host = urlsplit(self._invoke_url).netloc.rpartition("@")[2]
        if isinstance(error, requests.Timeout):
            what = f"{host} did not answer within {self._timeout_seconds:g} s"
        elif isinstance(error, requests.ConnectionError):
            what = f"{host} cannot be reached, or closed the connection without an answer"
        else:
            what = f"{host} gave no readable answer ({type(error).__name__})"
        return GatewayError(None, "no_answer", what, retriable=True)


class _SigV4(AuthBase):
    """Signs the request that really leaves; as an `auth` it also keeps a .netrc from replacing the header."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._credentials = credentials
        self._region = region

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        signed = AWSRequest(
            method=request.method,
            url=request.url,
            data=request.body,
            headers={"Content-Type": request.headers["Content-Type"]},
        )
        # Frozen, so that one request never mixes the halves of two credentials while they are refreshed.
        SigV4Auth(self._credentials.get_frozen_credentials(), "execute-api", self._region).add_auth(signed)
        request.headers.update(dict(signed.headers.items()))
        return request


@dataclass(frozen=True)
class _Entry:
    """A record as it will stand in a request's body."""

    position: int
    key: str
    text: bytes
    weight: int
    """Bytes that count towards the request's limit."""
    refusal: Failure | None = None
    """Why it cannot be sent at all."""


@dataclass(frozen=True)
class _Again:
    """Not settled: worth sending again. `failure` is what it becomes when patience ends."""

    failure: Failure

    @property
    def in_doubt(self) -> bool:
        """Whether the record may have been written, or may be yet."""
        return self.failure.status != 429 and self.failure.code not in AWS_THROTTLED


class _Queue:
    """Entries that wait, so that only the first waiting one of each key may go.

    :param not_before: the time before which no other record of a key may go
    """

    def __init__(
        self, entries: list[_Entry], results: dict[int, Any], not_before: Callable[[str], float]
    ) -> None:
        self._not_before = not_before
        self._behind: dict[str, deque[_Entry]] = {}
        self._ready: list[tuple[int, _Entry]] = []
        self._held: list[tuple[float, int, _Entry]] = []
        self._parts: list[list[_Entry]] = []
        for entry in entries:
            if entry.refusal:
                results[entry.position] = entry.refusal
            elif entry.key in self._behind:
                self._behind[entry.key].append(entry)
            else:
                self._behind[entry.key] = deque()
                self._hold(entry)

    def take(self, now: float) -> list[_Entry]:
        """The next request's entries: as many as its limits allow, one of a key, earliest first."""
        if self._parts:
            return self._parts.pop()
        while self._held and self._held[0][0] <= now:
            self.again(heapq.heappop(self._held)[-1])
        batch: list[_Entry] = []
        weight, body = 0, len(_FRAME)
        while self._ready and len(batch) < MAX_RECORDS:
            entry = self._ready[0][1]
            weight, body = weight + entry.weight, body + len(entry.text) + 1
            if batch and (weight > MAX_REQUEST_BYTES or body > MAX_BODY_BYTES):
                break
            batch.append(heapq.heappop(self._ready)[1])
        return batch

    def held_until(self) -> float | None:
        """When the first of those that are held back may go; None when there are none."""
        return self._held[0][0] if self._held else None

    def divide(self, batch: list[_Entry]) -> None:
        """Let the next two requests have one half of a batch each."""
        middle = len(batch) // 2
        self._parts += [batch[middle:], batch[:middle]]

    def again(self, entry: _Entry) -> None:
        heapq.heappush(self._ready, (entry.position, entry))

    def settled(self, entry: _Entry) -> None:
        if behind := self._behind[entry.key]:
            self._hold(behind.popleft())

    def _hold(self, entry: _Entry) -> None:
        heapq.heappush(self._held, (self._not_before(entry.key), entry.position, entry))

    def drain(self) -> list[_Entry]:
        """All that waits, ready or not."""
        left = [entry for _, entry in self._ready] + [entry for _, _, entry in self._held]
        left += [entry for waiting in (*self._behind.values(), *self._parts) for entry in waiting]
        self._ready, self._held, self._behind, self._parts = [], [], {}, []
        return left


_FRAME = b'{"records":[]}'


def _join(batch: list[_Entry]) -> bytes:
    return b'{"records":[' + b",".join(entry.text for entry in batch) + b"]}"


def _json(value: Any) -> bytes:
    return _text(value).encode()


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _topic_entry(position: int, key: int | str, value: Mapping[str, Any]) -> _Entry:
    try:
        text = _json({"key": key, "value": value})
    except (TypeError, ValueError) as error:
        return _unsendable(position, key, error)
    return _sized(position, _text(key), text, len(text), MAX_REQUEST_BYTES)


def _stream_entry(position: int, key: int | str, data: Mapping[str, Any]) -> _Entry:
    try:
        # The text goes as it is: the API's mapping template does the one base64 encoding Kinesis wants.
        record = _text(data)
        weight = len(record.encode()) + len(str(key).encode())
        text = _json({"data": record, "partition-key": str(key)})
    except (TypeError, ValueError) as error:
        return _unsendable(position, key, error)
    return _sized(position, str(key), text, weight, MAX_RECORD_BYTES)


def _sized(position: int, key: str, text: bytes, weight: int, limit: int) -> _Entry:
    if weight > limit or len(_FRAME) + len(text) > MAX_BODY_BYTES:
        reason = f"The record is too large: {weight} bytes with its key, where {limit} are allowed."
        return _Entry(position, key, b"", 0, Failure(None, "too_large", reason))
    return _Entry(position, key, text, weight)


def _unsendable(position: int, key: int | str, error: Exception) -> _Entry:
    return _Entry(position, str(key), b"", 0, Failure(None, "not_json", f"The record is no JSON: {error}"))


def _outcomes[Ack](
    send: Callable[[list[_Entry]], list[Ack | Failure | _Again]], batch: list[_Entry]
) -> Sequence[Ack | Failure | _Again] | None:
    """What became of each entry; an error of the whole request is every entry's. None: one of them is at fault."""
    try:
        return send(batch)
    except GatewayError as error:
        if error.content_refused and len(batch) > 1:
            return None
        failure = _failure(error)
        return [_Again(failure) if error.retriable else failure] * len(batch)


def _failure(error: GatewayError) -> Failure:
    return Failure(error.status, error.code, error.reason)


def _topic_result(item: Mapping[str, Any]) -> TopicAck | Failure | _Again:
    code = item.get("error_code")
    if code:
        failure = Failure(200, _excerpt(str(code)), _excerpt(str(item.get("error") or "no reason given")))
        return _Again(failure) if code in KAFKA_RETRIABLE else failure
    partition, offset = item.get("partition"), item.get("offset")
    if not (isinstance(partition, int) and isinstance(offset, int)):
        return _Again(_failure(_nonsense(200, "neither an error nor a partition and offset")))
    return TopicAck(partition, offset)


def _stream_result(item: Mapping[str, Any]) -> StreamAck | Failure | _Again:
    if code := item.get("ErrorCode"):
        reason = _excerpt(str(item.get("ErrorMessage") or "no reason given"))
        return _Again(Failure(200, _excerpt(str(code)), reason))
    shard, number = item.get("ShardId"), item.get("SequenceNumber")
    if not isinstance(shard, str) or not isinstance(number, str) or not number.isdecimal():
        return _Again(_failure(_nonsense(200, "neither an error nor a shard and sequence number")))
    return StreamAck(shard, number)


def _items(answer: dict[str, Any], name: str, wanted: int) -> list[dict[str, Any]]:
    items = answer.get(name)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _nonsense(200, f"no list {name!r}")
    if len(items) != wanted:
        raise _nonsense(200, f"{len(items)} results for {wanted} records")
    return items


def _nonsense(status: int, what: str) -> GatewayError:
    return GatewayError(status, "bad_answer", f"The answer makes no sense: {what}.", retriable=True)


def _answer(response: requests.Response) -> dict[str, Any]:
    """The response's JSON object, unless it is an error."""
    status = response.status_code
    body = _object(response.content)
    kind = str(body.get("__type", "")).rpartition("#")[2] if body else ""
    # An AWS integration without a matching response passes the service's error on under HTTP 200.
    if 200 <= status < 300 and not kind:
        if body is None and response.content.strip():
            raise _nonsense(status, f"no JSON object but {_excerpt(response.text)!r}")
        return body or {}
    raise _error(status, kind, body or {}, response.text)


def _error(status: int, kind: str, body: dict[str, Any], text: str) -> GatewayError:
    message = body.get("message") or body.get("Message") or body.get("error") or text or "no reason given"
    reason = _excerpt(str(message))
    code = _excerpt(kind or str(body.get("error_code") or f"http_{status}"))
    retriable = kind in AWS_RETRIABLE or status in {408, 429} or status >= 500
    if kind == "ResourceNotFoundException":
        return StreamNotFound(status, code, reason)
    if kind == "ResourceInUseException":
        return StreamInUse(status, code, reason)
    if status == 403:
        hint = "The API refused the credentials or what they ask for: check the AWS key pair, the region and"
        return CredentialsRefused(status, code, f"{hint} the right execute-api:Invoke. It says: {reason}")
    refused = kind in AWS_CONTENT_REFUSED if kind else status in HTTP_CONTENT_REFUSED
    return GatewayError(status, code, reason, retriable=retriable, content_refused=refused)


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _excerpt(text: str) -> str:
    """The first line, and not all of a long one: enough to act on, and free of echoed headers."""
    return printable(re.split(r"[\r\n]", text.strip(), maxsplit=1)[0], EXCERPT_LENGTH)
