"""Check the signatures inside an aws-chunked body (`STREAMING-AWS4-HMAC-SHA256-PAYLOAD`, with or without a trailer).

The signature of the request is the first link of a chain: each chunk's signature covers its data and the signature
before it, so that no chunk can be changed, left out or put elsewhere. The body itself passes on as it came.
"""

import hashlib
import hmac
import re

from local.sigv4 import SIGNED_CHUNKS_AND_TRAILER, SignatureMismatch, Signed

CRLF = b"\r\n"
LARGEST_HEAD = 1024
LARGEST_TRAILER = 16 * 1024
EMPTY = hashlib.sha256(b"").hexdigest()
HEAD = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([0-9a-f]{64})")
TRAILER_SIGNATURE = b"x-amz-trailer-signature"


class ChunkSignatures:
    """Takes a body piece by piece, however it is cut, and raises SignatureMismatch where a chunk is not as signed."""

    def __init__(self, signed: Signed) -> None:
        self._signed = signed
        self._previous = signed.signature
        self._buffer = bytearray()
        self._left: int | None = None  # of the chunk that is being read; None between two chunks
        self._stated = ""
        self._digest = hashlib.sha256()
        self._last = False  # the chunk of no bytes has been read: what follows is the trailer

    def update(self, data: bytes) -> None:
        """Check the next piece of the body."""
        self._buffer += data
        while not self._last and self._step():
            pass
        if self._last and len(self._buffer) > LARGEST_TRAILER:
            raise _refused("the trailer is too long")

    def finish(self) -> None:
        """Check that the body has come to its end, and its trailer."""
        if not self._last:
            raise _refused("its last chunk is missing")
        trailer = bytes(self._buffer)
        if trailer != CRLF and not trailer.endswith(CRLF + CRLF):
            raise _refused("what follows its last chunk is no trailer")
        lines = trailer.removesuffix(CRLF).split(CRLF)[:-1]
        if self._signed.payload_hash == SIGNED_CHUNKS_AND_TRAILER:
            self._check_trailer(lines)
        elif lines:
            raise _refused("it has a trailer that was not announced")

    def _step(self) -> bool:
        """Read what can be read; False when more of the body is needed."""
        return self._read_head() if self._left is None else self._read_data(self._left)

    def _read_head(self) -> bool:
        line, found, rest = self._buffer.partition(CRLF)
        if not found:
            if len(self._buffer) > LARGEST_HEAD:
                raise _refused("a chunk has no head")
            return False
        head = HEAD.fullmatch(line)
        if head is None:
            raise _refused("a chunk has no signature")
        self._buffer = rest
        self._left, self._stated = int(head[1], 16), head[2].decode()
        self._digest = hashlib.sha256()
        if self._left == 0:
            self._check("AWS4-HMAC-SHA256-PAYLOAD", EMPTY, self._digest.hexdigest(), self._stated)
            self._last = True
        return True

    def _read_data(self, left: int) -> bool:
        taken = self._buffer[:left]
        self._digest.update(taken)
        del self._buffer[: len(taken)]
        self._left = left - len(taken)
        if self._left or len(self._buffer) < len(CRLF):
            return False
        if self._buffer[: len(CRLF)] != CRLF:
            raise _refused("a chunk is longer than its head says")
        del self._buffer[: len(CRLF)]
        self._check("AWS4-HMAC-SHA256-PAYLOAD", EMPTY, self._digest.hexdigest(), self._stated)
        self._left = None
        return True

    def _check_trailer(self, lines: list[bytes]) -> None:
        *fields, signature = lines or [b""]
        name, _, stated = signature.partition(b":")
        if name.strip().lower() != TRAILER_SIGNATURE:
            raise _refused("its trailer has no signature")
        signed = b"".join(field + b"\n" for field in fields)
        self._check(
            "AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(signed).hexdigest(), stated.strip().decode("latin-1")
        )

    def _check(self, kind: str, *hashes_and_signature: str) -> None:
        *hashes, stated = hashes_and_signature
        expected = self._signed.sign(
            "\n".join([kind, self._signed.date, self._signed.scope, self._previous, *hashes])
        )
        if not hmac.compare_digest(expected.encode(), stated.encode()):
            raise _refused("a signature in it does not match")
        self._previous = expected


def _refused(problem: str) -> SignatureMismatch:
    return SignatureMismatch(f"The aws-chunked body is not the one that was signed: {problem}.")
