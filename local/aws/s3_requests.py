"""What S3 requests must say before ministack sees them: a key that can be listed, checksums that can be compared.

A listing is XML 1.0, and Hadoop asks for it without URL encoding. One key that XML cannot carry makes the bucket
unreadable to Spark. AWS takes such keys; the laptop refuses to write them. They can still be deleted.

ministack passes over a checksum that it does not know, as if it had been compared.
"""

import re
from urllib.parse import unquote_to_bytes

from local.sigv4 import SIGNED_CHUNKS_AND_TRAILER, UNSIGNED_TRAILER, Scope, Signed, header

LONGEST_KEY = 1024  # bytes in UTF-8, as on AWS
# What XML 1.0 lacks, and the carriage return, which its readers turn into a line feed.
UNLISTABLE = re.compile("[\0-\b\v-\x1f\ud800-\udfff\ufffe\uffff]")
WRITES = ("PUT", "POST")
CHECKSUM = "x-amz-checksum-"
ALGORITHMS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")
SETTINGS = frozenset({f"{CHECKSUM}{name}" for name in ("algorithm", "mode", "type")})
CHECKSUMS = frozenset(f"{CHECKSUM}{name.lower()}" for name in ALGORITHMS)


class RefusedRequest(Exception):
    """A request to S3 that goes no further; `code` is S3's, the text may be shown to the sender."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def check_request(scope: Scope, signed: Signed) -> None:
    """Refuse what nobody could read afterwards, and what nobody would compare.

    :param scope: the ASGI scope of a request to S3.
    :param signed: what its signature vouches for.
    :raises RefusedRequest: with S3's error code.
    """
    try:
        path = unquote_to_bytes(scope["raw_path"]).decode("utf-8")
    except UnicodeDecodeError:
        raise RefusedRequest("InvalidURI", "Couldn't parse the specified URI: it is not UTF-8.") from None
    if scope["method"] in WRITES:
        _check_form(scope)
        _check_key(path)
        _check_checksums(scope)
        _check_trailer(scope, signed)


def _check_form(scope: Scope) -> None:
    # Its key stands in the body, out of sight.
    if (header(scope, "content-type") or "").startswith("multipart/form-data"):
        raise RefusedRequest(
            "NotImplemented", "Uploads by HTML form are not offered here; use PutObject.", 501
        )


def _check_key(path: str) -> None:
    if found := UNLISTABLE.search(path):
        raise RefusedRequest(
            "InvalidArgument",
            f"The key holds U+{ord(found[0]):04X}, which a listing in XML cannot carry. AWS takes such a key, and "
            "whoever lists its bucket without encoding-type=url fails.",
        )
    key = path.removeprefix("/").partition("/")[2]
    if len(key.encode()) > LONGEST_KEY:
        raise RefusedRequest(
            "KeyTooLongError", f"Your key is too long: at most {LONGEST_KEY} bytes in UTF-8."
        )


def _check_checksums(scope: Scope) -> None:
    named = {name.decode("latin-1").lower() for name, _ in scope["headers"]}
    unknown = {name for name in named if name.startswith(CHECKSUM)} - CHECKSUMS - SETTINGS
    asked = header(scope, f"{CHECKSUM}algorithm")
    if unknown or (asked is not None and asked.upper() not in ALGORITHMS):
        raise RefusedRequest(
            "InvalidRequest",
            f"Checksum algorithm provided is unsupported. Please try again with any of the valid types: "
            f"[{', '.join(ALGORITHMS)}]",
        )


def _check_trailer(scope: Scope, signed: Signed) -> None:
    announced = header(scope, "x-amz-trailer")
    expected = signed.payload_hash in {SIGNED_CHUNKS_AND_TRAILER, UNSIGNED_TRAILER}
    if (announced is not None) != expected or (expected and announced not in CHECKSUMS):
        raise RefusedRequest(
            "InvalidRequest",
            "The value specified in the x-amz-trailer header is not supported: it must name one checksum, and "
            "x-amz-content-sha256 a body with a trailer.",
        )
