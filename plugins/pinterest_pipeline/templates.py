"""Jinja expressions that more than one DAG uses, and the filters that they need."""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

LONGEST_KEY = 128
"""A ledger partition is a folder named after the key, where each ``=`` takes three of a name's 255 bytes."""

_PLAIN = frozenset(string.ascii_letters + string.digits + "_.-")


def run_key(run_id: str) -> str:
    """
    Return the key that names a DAG run's objects, ledger rows and jobs: one key for each run id.

    ASCII letters, digits, ``_``, ``.`` and ``-`` stay as they are; every other byte becomes ``=`` and its two
    hexadecimal digits. A key that would be too long ends in ``==`` and the id's SHA-256, and ``==`` stands in no
    other key. Keys that differ in case alone name different runs.

    :param run_id: the Airflow run id: any text.
    """
    key = "".join(
        chr(byte) if chr(byte) in _PLAIN else f"={byte:02X}"
        for byte in run_id.encode("utf-8", "surrogatepass")
    )
    if len(key) <= LONGEST_KEY:
        return key
    tail = "==" + hashlib.sha256(key.encode()).hexdigest()
    head = re.sub(r"=[0-9A-F]?\Z", "", key[: LONGEST_KEY - len(tail)])
    return head + tail


def run_id_of(key: str) -> str | None:
    """Return the run id that a key names, or None where the key does not tell: it is a long one's, or no key."""
    if "==" in key:
        return None
    try:
        return unquote_to_bytes(key.replace("=", "%")).decode("utf-8", "surrogatepass")
    except UnicodeError:
        return None


FILTERS: dict[str, Callable[[str], str]] = {"run_key": run_key}
"""What a DAG that uses ``RUN_KEY`` takes as ``user_defined_filters``."""

RUN_KEY = "{{ run_id | run_key }}"
