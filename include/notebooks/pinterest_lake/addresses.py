"""Which addresses the notebooks accept, and how a message repeats one without its credentials. Plain Python."""

from __future__ import annotations

import re

BUCKET = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
NAME = r"(?!\.{1,2}(?:/|\Z))[\w.=+,~-]+"
FOLDER = rf"(?:s3a?://{BUCKET}(?:/{NAME})*|(?:dbfs:)?(?:/{NAME})+)/?"
"""A bucket or a folder of it, a mount, a volume, another folder of DBFS; the Airflow package has the same pattern."""
ENDPOINT = r"https?://[\w.-]+(?::[0-9]+)?(?:/[\w./-]*)?"

FORMS = "s3://bucket, or a path that starts with / or dbfs:/; without '..', a login or special characters"
"""What ``FOLDER`` accepts, in words."""


def quoted(value: str) -> str:
    """Return a value as a message may show it: what may hold credentials is not repeated."""
    beyond_scheme = re.sub(r"^[a-z0-9]+:(?=/)", "", value)
    return (
        "not repeated here, as it may hold credentials" if re.search("[@:?]", beyond_scheme) else repr(value)
    )


def redacted(text: str) -> str:
    """Return a text without what stands before the last ``@`` of an address in it."""
    return re.sub(r"(?<=://).*@", "…@", text, flags=re.DOTALL)
