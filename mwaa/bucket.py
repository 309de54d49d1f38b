"""Files in the MWAA bucket: which differ from what was built, and how they get there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

# An object tells its own checksum: its ETag does not, once it is encrypted or was sent in parts.
CHECKSUM = "sha256"


@dataclass(frozen=True)
class Changes:
    """Names that are only here, that differ, and that are only there."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def lines(self, place: str) -> list[str]:
        """Return one line a name, as a person reads it."""
        signs = (("+", self.added), ("~", self.changed), ("-", self.removed))
        return [f"{sign} {place}{name}" for sign, names in signs for name in names]


def compare(here: Mapping[str, str], there: Mapping[str, str]) -> Changes:
    """Compare two sides, each name -> checksum."""
    return Changes(
        tuple(sorted(here.keys() - there.keys())),
        tuple(sorted(name for name in here.keys() & there.keys() if here[name] != there[name])),
        tuple(sorted(there.keys() - here.keys())),
    )


def checksum(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Objects:
    """Objects of one bucket.

    :param client: a boto3 S3 client.
    :param bucket: its name.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def checksums(self, keys: Iterable[str]) -> dict[str, str]:
        """Return key -> SHA-256 of those objects that exist; one that was not put here has the checksum ``""``."""
        found = {}
        for key in keys:
            head = self._head(key)
            if head is not None:
                found[key] = head.get("Metadata", {}).get(CHECKSUM, "")
        return found

    def keys(self, prefix: str) -> list[str]:
        """Return the keys below a prefix; none if the bucket does not exist."""
        try:
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [each["Key"] for page in pages for each in page.get("Contents", [])]
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchBucket":
                return []
            raise

    def version(self, key: str) -> str:
        """Return the version that the newest object of a key has; ``""`` if there is none."""
        return str((self._head(key) or {}).get("VersionId", ""))

    def put(self, key: str, path: Path) -> None:
        """Store a file with its checksum; a reader sees the old object or the new one."""
        with path.open("rb") as file:
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=file, Metadata={CHECKSUM: checksum(path)}
            )

    def delete(self, key: str) -> None:
        """Delete an object; its versions stay."""
        self._client.delete_object(Bucket=self._bucket, Key=key)

    def empty(self) -> int:
        """Delete every version of every object; return how many. Nothing of the bucket's content can be had again."""
        count = 0
        for page in self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket):
            found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            doomed = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
            if doomed:
                self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": doomed, "Quiet": True})
            count += len(doomed)
        return count

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            head: dict[str, Any] = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound", "NoSuchBucket"}:
                return None
            raise
        return head
