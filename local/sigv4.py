"""Check AWS Signature Version 4 on an incoming request, the way an AWS service does.

The canonical request is rebuilt from the raw ASGI scope with botocore's own signers, so what a client of AWS
signs and what is checked here are the same code. Errors say what is wrong and never repeat a credential:

    SignatureError
    ├── MissingToken         no signature at all
    ├── IncompleteSignature  a signature that lacks a part or has one twice, or leaves out a header it has to cover
    ├── UnknownKey           signed with an access key that is not this stack's
    ├── UnknownToken         with a session token; the stack's key pair has none
    ├── WrongScope           signed for another region or service
    ├── SignatureExpired     signed too long ago, or in the future
    ├── SignatureMismatch    the request, or a chunk of its body, is not the one that was signed
    ├── UnknownPayloadForm   x-amz-content-sha256 is neither a hash nor a form of body that is known
    └── PayloadMismatch      the body is not the one whose hash was signed

A value that is not known is refused, never taken as one that need not be checked.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

__all__ = [
    "IncompleteSignature",
    "MissingToken",
    "PayloadMismatch",
    "SignatureError",
    "SignatureExpired",
    "SignatureMismatch",
    "Signed",
    "UnknownKey",
    "UnknownPayloadForm",
    "UnknownToken",
    "Verifier",
    "WrongScope",
    "header",
]

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_AND_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
# What x-amz-content-sha256 may say to S3 in the place of a hash.
PAYLOAD_FORMS = (UNSIGNED_PAYLOAD, UNSIGNED_TRAILER, SIGNED_CHUNKS, SIGNED_CHUNKS_AND_TRAILER)
# How far a request's date may lie from the clock: S3 allows more than the other services.
S3_SKEW = timedelta(minutes=15)
SKEW = timedelta(minutes=5)
LONGEST_PRESIGNED = timedelta(days=7)
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
SESSION_HEADER = "x-amz-security-token"
# What is read of them here must be what is read of them behind.
ONCE = ("host", "x-amz-content-sha256", "x-amz-date", "x-amz-target", "x-amz-trailer")
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_SHA256 = re.compile(r"[0-9a-f]{64}")

Scope = Mapping[str, Any]


class SignatureError(Exception):
    """A request that does not prove who sent it. The text may be shown to the sender."""


class MissingToken(SignatureError):
    """The request carries no signature."""


class IncompleteSignature(SignatureError):
    """The signature lacks a part, or leaves out a header it has to cover."""


class UnknownKey(SignatureError):
    """The access key is not this stack's."""


class UnknownToken(SignatureError):
    """The request brings a session token, and none has been given to anybody."""


class WrongScope(SignatureError):
    """The signature is for another region or service."""


class SignatureExpired(SignatureError):
    """The request was signed too long ago, or in the future."""


class SignatureMismatch(SignatureError):
    """The request is not the one that was signed, or the secret key is wrong."""


class UnknownPayloadForm(SignatureError):
    """x-amz-content-sha256 is neither a hash nor one of the forms of body that can be checked."""

    def __init__(self) -> None:
        super().__init__(f"x-amz-content-sha256 must be {', '.join(PAYLOAD_FORMS)} or a valid sha256 value.")


class PayloadMismatch(SignatureError):
    """The body's SHA-256 is not the one in x-amz-content-sha256."""

    def __init__(self) -> None:
        super().__init__("The provided 'x-amz-content-sha256' header does not match what was computed.")


@dataclass(frozen=True)
class Signed:
    """What a good signature vouches for.

    payload_hash: the body's SHA-256 in hex, or one of PAYLOAD_FORMS.
    signature, date, scope: what the signatures of a body's chunks continue.
    sign: signs a string with the key of this signature.
    """

    service: str
    region: str
    payload_hash: str
    signature: str
    date: str
    scope: str
    sign: Callable[[str], str] = field(repr=False, compare=False)

    @property
    def covers_body(self) -> bool:
        return _SHA256.fullmatch(self.payload_hash) is not None

    @property
    def signs_chunks(self) -> bool:
        return self.payload_hash in {SIGNED_CHUNKS, SIGNED_CHUNKS_AND_TRAILER}


@dataclass(frozen=True)
class _Claim:
    """A signature as the request states it, before anything is checked."""

    access_key_id: str
    day: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str
    date: str
    expires: timedelta | None = None  # of a presigned URL
    unsigned_query: frozenset[str] = field(default_factory=frozenset)


def header(scope: Scope, name: str) -> str | None:
    """The value of a request header (lower-case name), or None."""
    wanted = name.encode()
    return next((_text(value) for key, value in scope["headers"] if key.lower() == wanted), None)


class Verifier:
    """Checks requests against the one key pair of a stack."""

    def __init__(self, access_key_id: str, secret_access_key: str, region: str) -> None:
        self._credentials = Credentials(access_key_id, secret_access_key)
        self._region = region

    def verify(self, scope: Scope, body: bytes | None = None, *, service: str | None = None) -> Signed:
        """Return what the signature of an HTTP request vouches for.

        :param scope: the ASGI scope; `raw_path` and `query_string` as they came over the wire.
        :param body: the whole body. None leaves the comparison of the body with `payload_hash` to the caller;
            the request must then state its hash in x-amz-content-sha256.
        :param service: the service the signature must be for; None accepts any.
        :raises SignatureError: one of the errors above.
        """
        claim = _claim(scope)
        self._check_scope(claim, service)
        _check_date(claim)
        _check_coverage(scope, claim)
        _check_token(scope)
        payload_hash = _payload_hash(scope, body, claim)
        expected, sign = self._signature(scope, claim, payload_hash)
        if not hmac.compare_digest(expected.encode(), claim.signature.encode()):
            raise SignatureMismatch(
                "The request signature we calculated does not match the signature you provided. Check your AWS "
                "Secret Access Key and signing method. Consult the service documentation for details."
            )
        credential_scope = f"{claim.day}/{claim.region}/{claim.service}/aws4_request"
        signed = Signed(
            claim.service, claim.region, payload_hash, claim.signature, claim.date, credential_scope, sign
        )
        if body is not None and signed.covers_body and hashlib.sha256(body).hexdigest() != payload_hash:
            raise PayloadMismatch
        return signed

    def _check_scope(self, claim: _Claim, service: str | None) -> None:
        if not hmac.compare_digest(claim.access_key_id.encode(), str(self._credentials.access_key).encode()):
            raise UnknownKey("The security token included in the request is invalid.")
        if claim.region != self._region:
            raise WrongScope(
                f"Credential should be scoped to a valid region. This stack's is '{self._region}'."
            )
        if service is not None and claim.service != service:
            raise WrongScope(f"Credential should be scoped to correct service: '{service}'.")

    def _signature(self, scope: Scope, claim: _Claim, payload_hash: str) -> tuple[str, Callable[[str], str]]:
        """The signature that the request should have, and what signs further strings with its key."""
        kind = _S3Rebuild if claim.service == "s3" else _Rebuild
        signer = kind(self._credentials, claim.service, claim.region)
        request = _request(scope, claim)
        request.headers["X-Amz-Content-SHA256"] = payload_hash
        canonical = signer.canonical_request(request)

        def sign(text: str) -> str:
            return str(signer.signature(text, request))

        return sign(signer.string_to_sign(request, canonical)), sign


class _Rebuild(SigV4Auth):
    """botocore's signer over a request that already is on the wire: it covers what the sender says it covered."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        covered = HTTPHeaders()
        for name, value in request.context["covered"]:
            covered[name] = value
        return covered

    def canonical_query_string(self, request: AWSRequest) -> str:
        return str(request.context["query"])


class _S3Rebuild(S3SigV4Auth):
    headers_to_sign = _Rebuild.headers_to_sign
    canonical_query_string = _Rebuild.canonical_query_string


def _request(scope: Scope, claim: _Claim) -> AWSRequest:
    path = scope["raw_path"].decode("latin-1")
    if claim.service == "s3":
        # S3 decodes a key and encodes it once. For the others, botocore normalises and encodes the path as sent.
        path = quote(unquote_to_bytes(path), safe="/-_.~")
    request = AWSRequest(method=scope["method"], url=f"http://host{path}")
    request.context["timestamp"] = claim.date
    request.context["query"] = _canonical_query(scope["query_string"], claim.unsigned_query)
    request.context["covered"] = [
        (name, _text(value))
        for name, value in ((key.decode("latin-1").lower(), value) for key, value in scope["headers"])
        if name in claim.signed_headers
    ]
    return request


def _canonical_query(query_string: bytes, left_out: frozenset[str]) -> str:
    pairs = []
    for pair in filter(None, query_string.split(b"&")):
        name, _, value = pair.partition(b"=")
        plain = unquote_to_bytes(name)
        if plain.decode("utf-8", "replace") not in left_out:
            pairs.append((quote(plain, safe="-_.~"), quote(unquote_to_bytes(value), safe="-_.~")))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _claim(scope: Scope) -> _Claim:
    authorizations = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
    query = _query(scope)
    names = [name for name, _ in query if name.startswith("X-Amz-")]
    presigned = "X-Amz-Signature" in names
    if len(authorizations) + presigned > 1:
        raise IncompleteSignature(
            "Only one auth mechanism allowed: one Authorization header or X-Amz-Signature."
        )
    if authorizations:
        return _header_claim(_text(authorizations[0]), header(scope, "x-amz-date"))
    if not presigned:
        raise MissingToken("Missing Authentication Token")
    if len({*names}) < len(names):
        raise IncompleteSignature("An X-Amz- parameter of a presigned URL must stand in it once.")
    return _query_claim(dict(query))


def _query(scope: Scope) -> list[tuple[str, str]]:
    return [
        (
            unquote_to_bytes(name).decode("utf-8", "replace"),
            unquote_to_bytes(value).decode("utf-8", "replace"),
        )
        for name, _, value in (pair.partition(b"=") for pair in scope["query_string"].split(b"&"))
    ]


def _header_claim(authorization: str, date: str | None) -> _Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise IncompleteSignature(f"The Authorization header must be an {ALGORITHM} signature.")
    pairs = [part.strip().partition("=")[::2] for part in rest.split(",")]
    parts = dict(pairs)
    if len(parts) < len(pairs):
        raise IncompleteSignature("A part of the Authorization header must stand in it once.")
    lacking = [name for name in ("Credential", "Signature", "SignedHeaders") if not parts.get(name)]
    if lacking:
        raise IncompleteSignature(
            " ".join(f"Authorization header requires '{name}' parameter." for name in lacking)
        )
    if date is None:
        raise IncompleteSignature("Authorization header requires existence of a 'X-Amz-Date' header.")
    key, day, region, service = _credential(parts["Credential"])
    signed_headers = tuple(parts["SignedHeaders"].split(";"))
    return _Claim(key, day, region, service, signed_headers, parts["Signature"], date)


def _query_claim(query: Mapping[str, str]) -> _Claim:
    names = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders")
    lacking = [name for name in names if not query.get(name)]
    if lacking or query["X-Amz-Algorithm"] != ALGORITHM:
        raise IncompleteSignature(
            f"A presigned URL needs an {ALGORITHM} signature and {', '.join(names[1:])}."
        )
    key, day, region, service = _credential(query["X-Amz-Credential"])
    if service != "s3":
        raise IncompleteSignature("Presigned URLs are taken for S3 only.")
    return _Claim(
        key,
        day,
        region,
        service,
        tuple(query["X-Amz-SignedHeaders"].split(";")),
        query["X-Amz-Signature"],
        query["X-Amz-Date"],
        expires=_expires(query["X-Amz-Expires"]),
        unsigned_query=frozenset({"X-Amz-Signature"}),
    )


def _expires(text: str) -> timedelta:
    longest = int(LONGEST_PRESIGNED.total_seconds())
    if not re.fullmatch(r"[0-9]{1,6}", text) or not 1 <= int(text) <= longest:
        raise IncompleteSignature(f"X-Amz-Expires must be a number of seconds from 1 to {longest}.")
    return timedelta(seconds=int(text))


def _credential(credential: str) -> tuple[str, str, str, str]:
    elements = credential.split("/")
    if len(elements) != 5 or elements[4] != "aws4_request":
        raise IncompleteSignature("Credential must be key/date/region/service/aws4_request.")
    return elements[0], elements[1], elements[2], elements[3]


def _check_date(claim: _Claim) -> None:
    try:
        if not _DATE.fullmatch(claim.date):
            raise ValueError(claim.date)
        signed_at = datetime.strptime(claim.date, DATE_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise IncompleteSignature("X-Amz-Date must have the form YYYYMMDDTHHMMSSZ.") from None
    if claim.day != claim.date[:8]:
        raise SignatureMismatch("Date in Credential scope does not match YYYYMMDD from X-Amz-Date.")
    now = datetime.now(UTC)
    skew = S3_SKEW if claim.service == "s3" else SKEW
    oldest = now - (skew if claim.expires is None else claim.expires)
    if signed_at < oldest:
        raise SignatureExpired(f"Signature expired: {claim.date} is now earlier than {oldest:{DATE_FORMAT}}.")
    if signed_at > now + skew:
        raise SignatureExpired(
            f"Signature not yet current: {claim.date} is still later than {now + skew:{DATE_FORMAT}}."
        )


def _check_coverage(scope: Scope, claim: _Claim) -> None:
    """Host and every x-amz-* header change what a request does, so AWS wants them signed."""
    if "host" not in claim.signed_headers:
        raise IncompleteSignature("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    names = [key.decode("latin-1").lower() for key, _ in scope["headers"]]
    if twice := [name for name in ONCE if names.count(name) > 1]:
        raise IncompleteSignature(f"A header must stand in the request once: {', '.join(twice)}")
    present = {*names}
    uncovered = {name for name in present if name.startswith("x-amz-")}
    uncovered -= {*claim.signed_headers}
    if uncovered:
        raise IncompleteSignature(
            f"There were headers present in the request which were not signed: {', '.join(sorted(uncovered))}"
        )


def _check_token(scope: Scope) -> None:
    """A session token belongs to a key pair that STS gave out; the stack's own has none."""
    if header(scope, SESSION_HEADER) is not None or any(
        name.lower() == SESSION_HEADER for name, _ in _query(scope)
    ):
        raise UnknownToken(
            "The security token included in the request is invalid: this stack's key has none."
        )


def _payload_hash(scope: Scope, body: bytes | None, claim: _Claim) -> str:
    stated = header(scope, "x-amz-content-sha256")
    if stated is None and claim.expires is not None:
        return UNSIGNED_PAYLOAD
    if stated is None and body is None:
        raise IncompleteSignature("The request must state its payload's hash in x-amz-content-sha256.")
    if stated is None:
        return hashlib.sha256(body or b"").hexdigest()
    if not _SHA256.fullmatch(stated) and (claim.service != "s3" or stated not in PAYLOAD_FORMS):
        raise UnknownPayloadForm if claim.service == "s3" else PayloadMismatch
    return stated


def _text(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
