"""JSON as strictly as the records are read (docs/data.md): what they refuse as `not_json` or `not_utf8` is no JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def loads(text: str | bytes) -> Any:
    """Return the one JSON value that a text is.

    :param text: UTF-8 if it is bytes
    :raises ValueError: it is none; neither is one with a repeated key, at any depth, or with NaN
    """
    decoded = text.decode() if isinstance(text, bytes) else text
    return json.loads(decoded, object_pairs_hook=_object, parse_constant=_refuse_constant)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {json.dumps(repeated):.60} is repeated")
    return found


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON value")


def require_unicode(value: Any) -> None:
    """Refuse text, at any depth, in which an escape has left half a surrogate pair: no UTF-8 can say it.

    :raises ValueError: there is such a text
    """
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"\\u{ord(half):04x} is half a surrogate pair") from None
