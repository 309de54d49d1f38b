"""The signatures inside an aws-chunked body: AWS' own examples pass however they are cut, and nothing else does."""

import base64
import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.aws.chunked import ChunkSignatures
from local.sigv4 import SIGNED_CHUNKS, SIGNED_CHUNKS_AND_TRAILER, SignatureMismatch, Signed

REGION = "us-east-1"
DATA = b"a" * 66560
# "Signature calculations for the authorization header: transferring payload in multiple chunks", Amazon S3 API
# Reference, without and with trailing headers. The keys are the ones of AWS' documentation.
EXAMPLE_KEY = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
CHUNKS = (
    "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
)
CHUNKS_BEFORE_TRAILER = (
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER = (
    b"x-amz-checksum-crc32c:sOO8/Q==\r\n"
    b"x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n"
)


def example(form: str, seed: str) -> Signed:
    signer, request = SigV4Auth(EXAMPLE_KEY, "s3", REGION), AWSRequest("PUT", "http://host/")
    request.context["timestamp"] = "20130524T000000Z"
    return Signed(
        "s3",
        REGION,
        form,
        seed,
        "20130524T000000Z",
        f"20130524/{REGION}/s3/aws4_request",
        lambda text: str(signer.signature(text, request)),
    )


PLAIN = example(SIGNED_CHUNKS, "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9")
TRAILED = example(
    SIGNED_CHUNKS_AND_TRAILER, "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
)


def framed(signatures: tuple[str, ...], trailer: bytes = b"", data: bytes = DATA) -> bytes:
    chunks = (data[:65536], data[65536:], b"")
    parts = [
        f"{len(chunk):x};chunk-signature={signature}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
        for chunk, signature in zip(chunks, signatures, strict=True)
    ]
    return b"".join(parts) + trailer + b"\r\n"


BODY = framed(CHUNKS)
BODY_AND_TRAILER = framed(CHUNKS_BEFORE_TRAILER, TRAILER)


def check(signed: Signed, body: bytes, size: int = 10**6) -> None:
    chunks = ChunkSignatures(signed)
    for start in range(0, len(body), size):
        chunks.update(body[start : start + size])
    chunks.finish()


@pytest.mark.parametrize("size", [1, 7, 65536, 65625, 10**6])
def test_the_examples_of_aws_pass_however_they_are_cut(size: int) -> None:
    check(PLAIN, BODY, size)
    check(TRAILED, BODY_AND_TRAILER, size)


HEAD = b"10000;chunk-signature=" + CHUNKS[0].encode()
TAMPERED: list[tuple[str, Signed, bytes]] = [
    ("another byte in a chunk", PLAIN, framed(CHUNKS, data=DATA[:-1] + b"b")),
    ("zeros for a signature", PLAIN, framed((CHUNKS[0], "0" * 64, CHUNKS[2]))),
    ("a chunk that is left out", PLAIN, BODY[: BODY.index(b"400;")] + BODY[BODY.index(b"0;chunk", 65700) :]),
    ("no last chunk", PLAIN, BODY[: BODY.rindex(b"0;chunk")]),
    ("no end of the body", PLAIN, BODY[:-2]),
    ("nothing", PLAIN, b""),
    ("a chunk without a signature", PLAIN, BODY.replace(HEAD, b"10000")),
    ("an extension for the signature", PLAIN, BODY.replace(HEAD, HEAD + b";x=1")),
    ("no number", PLAIN, BODY.replace(HEAD, HEAD.replace(b"10000", b"-1"))),
    ("a head without end", PLAIN, b"1" * 2000),
    ("a trailer that was not announced", PLAIN, BODY[:-2] + TRAILER + b"\r\n"),
    ("more after the end", PLAIN, BODY + b"x"),
    ("another checksum", TRAILED, BODY_AND_TRAILER.replace(b"sOO8/Q==", b"sOO8/A==")),
    ("another field", TRAILED, BODY_AND_TRAILER.replace(b"crc32c", b"crc32d")),
    ("a trailer without a signature", TRAILED, framed(CHUNKS_BEFORE_TRAILER, TRAILER[:32])),
    ("no trailer", TRAILED, framed(CHUNKS_BEFORE_TRAILER)),
    ("a trailer without end", TRAILED, framed(CHUNKS_BEFORE_TRAILER, b"x" * 20_000)),
    ("another request", replace(PLAIN, signature="0" * 64), BODY),
]


@pytest.mark.parametrize(("signed", "body"), [pytest.param(s, b, id=name) for name, s, b in TAMPERED])
def test_what_was_not_signed_is_refused(signed: Signed, body: bytes) -> None:
    with pytest.raises(SignatureMismatch, match="aws-chunked body is not the one that was signed"):
        check(signed, body)


def upload(url: str, key: Credentials, stated: str, body: Callable[[Any], bytes], **headers: str) -> Any:
    """PUT with `stated` as x-amz-content-sha256 in a good signature; `body` makes the body from the signed request."""
    request = AWSRequest("PUT", url, headers={"X-Amz-Content-SHA256": stated, **headers})
    signer = S3SigV4Auth(key, "s3", REGION)
    signer.payload = lambda _: stated  # type: ignore[method-assign]
    signer.add_auth(request)
    return requests.put(url, data=body((signer, request)), headers=dict(request.headers), timeout=10)


def chunked(content: bytes, *, forged: bool = False) -> Callable[[Any], bytes]:
    """A body of one chunk and the last one, signed as an SDK does it."""

    def body(signing: Any) -> bytes:
        signer, request = signing
        date, empty = request.context["timestamp"], hashlib.sha256(b"").hexdigest()
        scope = f"{date[:8]}/{REGION}/s3/aws4_request"
        previous, made = request.headers["Authorization"].rpartition("=")[2], b""
        for chunk in (content, b""):
            digest = hashlib.sha256(chunk).hexdigest()
            text = "\n".join(["AWS4-HMAC-SHA256-PAYLOAD", date, scope, previous, empty, digest])
            previous = "0" * 64 if forged else signer.signature(text, request)
            made += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n"
        return made

    return body


STORED = {"Content-Encoding": "aws-chunked", "X-Amz-Decoded-Content-Length": "7"}


def test_a_chunked_upload_is_stored_and_a_forged_one_is_not(aws: Any, key: Credentials) -> None:
    url = f"{aws.url}/chunks"
    assert upload(url, key, hashlib.sha256(b"").hexdigest(), lambda _: b"").status_code == 200
    good = upload(f"{url}/good", key, SIGNED_CHUNKS, chunked(b"content"), **STORED)
    forged = upload(f"{url}/forged", key, SIGNED_CHUNKS, chunked(b"content", forged=True), **STORED)
    assert (good.status_code, forged.status_code) == (200, 403), good.text
    assert "<Code>SignatureDoesNotMatch</Code>" in forged.text
    listing = upload_get(f"{url}?list-type=2", key)
    assert ("<Key>good</Key>" in listing, "<Key>forged</Key>" in listing) == (True, False)
    assert upload_get(f"{url}/good", key) == "content"


def upload_get(url: str, key: Credentials) -> str:
    request = AWSRequest("GET", url)
    S3SigV4Auth(key, "s3", REGION).add_auth(request)
    return requests.get(url, headers=dict(request.headers), timeout=10).text


@pytest.mark.parametrize(
    "stated",
    [
        "abc",
        "x",
        "STREAMING-FOO",
        "UNSIGNED",
        "unsigned-payload",
        "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-EVENTS",
        "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        "UNSIGNED-PAYLOAD,UNSIGNED-PAYLOAD",
    ],
)
def test_a_form_of_body_that_nobody_knows_is_refused(stated: str, aws: Any, key: Credentials) -> None:
    reply = upload(f"{aws.url}/bucket/key", key, stated, lambda _: b"anything")
    assert (reply.status_code, "<Code>InvalidArgument</Code>" in reply.text) == (400, True), reply.text
    assert "x-amz-content-sha256 must be UNSIGNED-PAYLOAD" in reply.text


CRC32 = base64.b64encode(zlib.crc32(b"content").to_bytes(4, "big")).decode()


@pytest.mark.parametrize(("checksum", "status"), [(CRC32, 200), ("AAAAAA==", 400)])
def test_the_checksum_in_an_unsigned_trailer_is_compared(
    checksum: str, status: int, aws: Any, key: Credentials
) -> None:
    body = f"7\r\ncontent\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()
    upload(f"{aws.url}/chunks", key, hashlib.sha256(b"").hexdigest(), lambda _: b"")
    reply = upload(
        f"{aws.url}/chunks/trailer",
        key,
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        lambda _: body,
        **STORED,
        **{"X-Amz-Trailer": "x-amz-checksum-crc32"},
    )
    assert reply.status_code == status, reply.text
    assert ("BadDigest" in reply.text) == (status == 400)
