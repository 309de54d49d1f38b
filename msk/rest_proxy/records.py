"""The body of a produce request: JSON around values whose bytes must arrive as they were sent."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

_NULL = b"null"
# One escape inside a JSON string, whole surrogate pairs together; `half` is a surrogate without its other half.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


class NotJsonError(ValueError):
    """The body is not JSON text."""


class NotRecordsError(ValueError):
    """The body is JSON, but not a list of records in its wrapper."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record as Kafka takes it; a value of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    partition: int | None


class _WireRecord(msgspec.Struct):
    # No default: a record without its "value" wrapper must not become a tombstone.
    value: Raw
    key: Raw = Raw(_NULL)
    partition: Annotated[int, Meta(ge=0, lt=2**31)] | None = None


class _Body(msgspec.Struct):
    records: list[_WireRecord]


_decode = msgspec.json.Decoder(_Body).decode


def parse(body: bytes) -> list[Record]:
    """Return the records of a produce request.

    A value's bytes are kept, but for line breaks between its tokens: downstream, one line is one value.
    Raise NotJsonError or NotRecordsError, naming the place.
    """
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise NotJsonError(f"the body is not UTF-8 (byte {error.start})") from error
    mark = b""
    try:
        wire = _decode_records(body)
    except NotJsonError:
        # Half a surrogate pair is grammatical JSON which the decoder refuses. It must not cost the other
        # records their way, so it is hidden behind a mark while the body is taken apart.
        mark = secrets.token_hex(8).encode()
        wire = _decode_records(_hide_half_surrogates(body, mark))
    if not wire:
        raise NotRecordsError("records is empty")
    return [Record(_bytes(each.key, mark), _bytes(each.value, mark), each.partition) for each in wire]


def _decode_records(body: bytes) -> list[_WireRecord]:
    try:
        return _decode(body).records
    except msgspec.ValidationError as error:
        _check_json(body)
        raise NotRecordsError(_place(error)) from error
    except msgspec.DecodeError as error:
        raise NotJsonError(str(error)) from error
    except RecursionError as error:
        raise NotJsonError("the body is nested too deeply") from error


def _check_json(body: bytes) -> None:
    """Raise NotJsonError unless body, which is no list of records, is JSON at all."""
    try:
        msgspec.json.decode(body, type=Raw)
    except msgspec.DecodeError as error:
        raise NotJsonError(str(error)) from error
    except RecursionError as error:
        raise NotJsonError("the body is nested too deeply") from error


def _place(error: msgspec.ValidationError) -> str:
    hint = 'the body must be {"records": [{"key": …, "value": …}, …]}'
    return f"{hint}: {error}"


def _bytes(raw: Raw, mark: bytes) -> bytes | None:
    text = bytes(raw)
    if text == _NULL:
        return None
    if b"\n" in text:
        # A JSON string cannot hold a bare line break, so these all stand between tokens.
        text = text.translate(None, b"\r\n")
    return text.replace(mark, b"\\") if mark else text


def _hide_half_surrogates(body: bytes, mark: bytes) -> bytes:
    def hidden(match: re.Match[bytes]) -> bytes:
        half = match["half"]
        return mark + half if half else match[0]

    return _ESCAPE.sub(hidden, body)
