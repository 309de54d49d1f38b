"""What botocore signs is let in; what anybody changed afterwards is not."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import time_machine
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from local.sigv4 import (
    ALGORITHM,
    PAYLOAD_FORMS,
    IncompleteSignature,
    MissingToken,
    PayloadMismatch,
    SignatureError,
    SignatureExpired,
    SignatureMismatch,
    UnknownKey,
    UnknownPayloadForm,
    UnknownToken,
    Verifier,
    WrongScope,
)

KEY = Credentials("AKIAEXAMPLE", "the/secret+key")
REGION = "us-east-1"
VERIFIER = Verifier(KEY.access_key, KEY.secret_key, REGION)
Scope = dict[str, Any]

texts = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/"), max_size=12)
names = texts.filter(bool)


def scope_of(request: AWSRequest) -> Scope:
    """A signed request as a server sees it."""
    parts = urlsplit(request.url)
    headers = [(b"host", parts.netloc.encode())]
    headers += [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    return {
        "method": request.method,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": headers,
    }


def signed(
    service: str = "kinesis",
    *,
    method: str = "POST",
    path: str = "/",
    query: str = "",
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    credentials: Credentials = KEY,
    region: str = REGION,
) -> Scope:
    url = f"http://127.0.0.1:4566{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method, url, data=body, headers=headers or {})
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    kind(credentials, service, region).add_auth(request)
    return scope_of(request)


def with_header(scope: Scope, name: str, change: Callable[[str], str]) -> Scope:
    headers = [
        (key, change(value.decode()).encode() if key == name.encode() else value)
        for key, value in scope["headers"]
    ]
    return {**scope, "headers": headers}


@pytest.mark.parametrize("service", ["s3", "kinesis", "execute-api", "kafkaconnect"])
@settings(deadline=None)
@given(
    segments=st.lists(names, max_size=4),
    query=st.lists(st.tuples(names, texts), max_size=4),
    body=st.binary(max_size=50),
)
def test_whatever_botocore_signs_is_let_in(
    service: str, segments: list[str], query: list[tuple[str, str]], body: bytes
) -> None:
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    text = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)
    verified = VERIFIER.verify(signed(service, path=path, query=text, body=body), body)
    assert (verified.service, verified.region) == (service, REGION)
    assert verified.payload_hash == hashlib.sha256(body).hexdigest()


@settings(deadline=None)
@given(key=names, unescaped=st.sampled_from("=+,:@!'()*&$;"))
def test_s3_takes_a_key_however_it_is_escaped_on_the_wire(key: str, unescaped: str) -> None:
    path = f"/bucket/a{quote(key, safe='')}{quote(unescaped, safe='')}"
    scope = signed("s3", method="PUT", path=path)
    scope["raw_path"] = f"/bucket/a{quote(key, safe='')}{unescaped}".encode()
    assert VERIFIER.verify(scope, b"").service == "s3"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "DELETE"},
        {"raw_path": b"/other"},
        {"raw_path": b"/b/../stream"},
        {"query_string": b"a=2"},
        {"query_string": b"a=1&b=2"},
        {"query_string": b""},
    ],
)
@pytest.mark.parametrize("service", ["s3", "kinesis"])
def test_a_changed_request_is_refused(service: str, change: Scope) -> None:
    scope = signed(service, path="/stream", query="a=1", body=b"body")
    VERIFIER.verify(scope, b"body")
    if change.get("raw_path") == b"/b/../stream" and service != "s3":
        assert VERIFIER.verify(scope | change, b"body"), "other services normalise the path, as AWS does"
    else:
        with pytest.raises(SignatureMismatch):
            VERIFIER.verify(scope | change, b"body")


@pytest.mark.parametrize("name", ["host", "x-amz-date", "x-amz-target", "authorization"])
def test_a_changed_header_is_refused(name: str) -> None:
    scope = signed(headers={"X-Amz-Target": "Kinesis_20131202.ListStreams"})
    VERIFIER.verify(scope, b"")
    with pytest.raises(SignatureError):
        VERIFIER.verify(
            with_header(scope, name, lambda value: value[:-1] + ("1" if value[-1] != "1" else "2")), b""
        )


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(SignatureMismatch):
        VERIFIER.verify(signed("execute-api", body=b"[1]"), b"[2]")
    with pytest.raises(PayloadMismatch):
        VERIFIER.verify(signed("s3", body=b"[1]"), b"[2]")


def test_a_body_that_was_signed_as_unsigned_may_be_any() -> None:
    request = AWSRequest("PUT", "http://127.0.0.1:4566/b/k", data=b"x")
    signer = S3SigV4Auth(KEY, "s3", REGION)
    signer.payload = lambda _: "UNSIGNED-PAYLOAD"  # type: ignore[method-assign]
    signer.add_auth(request)
    verified = VERIFIER.verify(scope_of(request), b"anything else")
    assert not verified.covers_body


def test_a_header_that_was_added_later_is_refused() -> None:
    scope = signed()
    scope["headers"].append((b"x-amz-target", b"Kinesis_20131202.DeleteStream"))
    with pytest.raises(IncompleteSignature, match="not signed: x-amz-target"):
        VERIFIER.verify(scope, b"")


def test_nothing_is_no_signature() -> None:
    with pytest.raises(MissingToken, match=r"^Missing Authentication Token$"):
        VERIFIER.verify({"method": "GET", "raw_path": b"/", "query_string": b"", "headers": []}, b"")


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("Bearer abc", "must be an AWS4-HMAC-SHA256 signature"),
        ("AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request", "requires 'Signature' parameter"),
        ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=0", "Credential must be key/date"),
        ("AWS4-HMAC-SHA256", "requires 'Credential' parameter"),
        ("", "must be an AWS4-HMAC-SHA256 signature"),
    ],
)
def test_half_a_signature_is_named(authorization: str, message: str) -> None:
    scope = with_header(signed(), "authorization", lambda _: authorization)
    with pytest.raises(IncompleteSignature, match=message):
        VERIFIER.verify(scope, b"")


def test_another_key_is_unknown_and_another_secret_does_not_match() -> None:
    with pytest.raises(UnknownKey):
        VERIFIER.verify(signed(credentials=Credentials("AKIAOTHER", KEY.secret_key)), b"")
    with pytest.raises(SignatureMismatch):
        VERIFIER.verify(signed(credentials=Credentials(KEY.access_key, "other")), b"")


def test_region_and_service_must_be_right() -> None:
    with pytest.raises(WrongScope, match="valid region"):
        VERIFIER.verify(signed(region="eu-west-1"), b"")
    with pytest.raises(WrongScope, match="correct service: 'execute-api'"):
        VERIFIER.verify(signed("kinesis"), b"", service="execute-api")


@pytest.mark.parametrize(
    ("service", "minutes", "holds"),
    [
        ("kinesis", -4.9, True),
        ("kinesis", -5.1, False),
        ("kinesis", 5.1, False),
        ("s3", -14.9, True),
        ("s3", -15.1, False),
    ],
)
def test_a_signature_holds_for_as_long_as_on_aws(
    service: str, minutes: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: now + timedelta(minutes=minutes))
    scope = signed(service)
    with time_machine.travel(now, tick=False):
        if holds:
            VERIFIER.verify(scope, b"")
        else:
            with pytest.raises(SignatureExpired):
                VERIFIER.verify(scope, b"")


def test_a_presigned_url_holds_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    def presigned(age: timedelta) -> Scope:
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: datetime.now(UTC) - age)
        request = AWSRequest("GET", "http://127.0.0.1:4566/bucket/a%2Bb%20c")
        S3SigV4QueryAuth(KEY, "s3", REGION, expires=60).add_auth(request)
        return scope_of(request)

    fresh = presigned(timedelta())
    assert VERIFIER.verify(fresh).service == "s3"
    with pytest.raises(SignatureMismatch):
        VERIFIER.verify(fresh | {"method": "PUT"})
    with pytest.raises(SignatureExpired):
        VERIFIER.verify(presigned(timedelta(seconds=61)))


def test_errors_never_repeat_the_secret_or_the_signature() -> None:
    scope = signed(credentials=Credentials(KEY.access_key, "another/secret"))
    with pytest.raises(SignatureMismatch) as caught:
        VERIFIER.verify(scope, b"")
    authorization = next(value for name, value in scope["headers"] if name == b"authorization").decode()
    for secret in (KEY.secret_key, authorization.rpartition("=")[2]):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "stated", ["abc", "", "STREAMING-FOO", "UNSIGNED", "E3B0" + "0" * 60, "e3b0" * 16 + "\n"]
)
def test_a_payload_hash_that_is_none_is_refused(stated: str) -> None:
    with pytest.raises(
        UnknownPayloadForm, match="must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
    ):
        VERIFIER.verify(stating(stated, S3SigV4Auth, "s3"), b"x")


@pytest.mark.parametrize("stated", [*PAYLOAD_FORMS, "abc", "0" * 64, ""])
@pytest.mark.parametrize("service", ["kinesis", "execute-api"])
def test_only_s3_takes_anything_but_the_hash_of_the_body(stated: str, service: str) -> None:
    with pytest.raises(PayloadMismatch):
        VERIFIER.verify(stating(stated, SigV4Auth, service), b"x")


def stating(payload_hash: str, kind: Any, service: str) -> Scope:
    """A good signature over a request that says this in x-amz-content-sha256."""
    request = AWSRequest("PUT", "http://127.0.0.1:4566/b/k", data=b"x")
    request.headers["X-Amz-Content-SHA256"] = payload_hash
    signer = kind(KEY, service, REGION)
    signer.payload = lambda _: payload_hash
    signer.add_auth(request)
    return scope_of(request)


def test_a_session_token_is_refused_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Credentials(KEY.access_key, KEY.secret_key, "made-up")
    with pytest.raises(UnknownToken, match="security token included in the request is invalid"):
        VERIFIER.verify(signed("execute-api", credentials=session), b"")
    with pytest.raises(UnknownToken):
        VERIFIER.verify(signed("s3", credentials=session), b"")
    request = AWSRequest("GET", "http://127.0.0.1:4566/bucket/key")
    S3SigV4QueryAuth(session, "s3", REGION, expires=60).add_auth(request)
    with pytest.raises(UnknownToken):
        VERIFIER.verify(scope_of(request))
    lower = signed("s3", query="x-amz-security-token=made-up")
    with pytest.raises(UnknownToken):
        VERIFIER.verify(lower, b"")


@pytest.mark.parametrize(
    "expires", ["0", "604801", "99999999999", "-1", "1.0", "٦٠", "60 ", "", "1e3", "0x3c"]
)
def test_a_presigned_url_holds_for_a_week_at_most(expires: str) -> None:
    request = AWSRequest("GET", "http://127.0.0.1:4566/bucket/key")
    S3SigV4QueryAuth(KEY, "s3", REGION, expires=expires).add_auth(request)
    with pytest.raises(IncompleteSignature, match="X-Amz-Expires"):
        VERIFIER.verify(scope_of(request))


def test_a_presigned_url_may_hold_for_a_week() -> None:
    request = AWSRequest("GET", "http://127.0.0.1:4566/bucket/key")
    S3SigV4QueryAuth(KEY, "s3", REGION, expires=604800).add_auth(request)
    assert VERIFIER.verify(scope_of(request)).payload_hash == "UNSIGNED-PAYLOAD"


def test_a_request_is_signed_once() -> None:
    scope = signed("s3")
    authorization = next(pair for pair in scope["headers"] if pair[0] == b"authorization")
    with pytest.raises(IncompleteSignature, match="Only one auth mechanism"):
        VERIFIER.verify({**scope, "headers": [*scope["headers"], authorization]}, b"")
    request = AWSRequest("GET", "http://127.0.0.1:4566/bucket/key")
    S3SigV4QueryAuth(KEY, "s3", REGION, expires=60).add_auth(request)
    presigned = scope_of(request)
    with pytest.raises(IncompleteSignature, match="Only one auth mechanism"):
        VERIFIER.verify({**presigned, "headers": [*presigned["headers"], authorization]}, b"")
    with pytest.raises(IncompleteSignature, match="must stand in it once"):
        VERIFIER.verify({**presigned, "query_string": presigned["query_string"] + b"&X-Amz-Signature=0"})
    twice = with_header(scope, "authorization", lambda value: f"{value}, Signature=0")
    with pytest.raises(IncompleteSignature, match="must stand in it once"):
        VERIFIER.verify(twice, b"")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 "),
        ("AWS4-HMAC-SHA256 ", "AWS4-ECDSA-P256-SHA256 "),
        ("AWS4-HMAC-SHA256 ", "aws4-hmac-sha256 "),
        ("/aws4_request", "/aws5_request"),
        ("SignedHeaders=host;", "SignedHeaders="),
        (";x-amz-date", ""),
    ],
)
def test_an_authorization_that_leaves_something_unchecked_is_refused(old: str, new: str) -> None:
    scope = with_header(signed(), "authorization", lambda value: value.replace(old, new))
    with pytest.raises(IncompleteSignature):
        VERIFIER.verify(scope, b"")


@pytest.mark.parametrize(
    ("name", "value"),
    [("host", "evil"), ("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), ("x-amz-date", "20130524T000000Z")],
)
def test_a_header_that_decides_something_stands_in_a_request_once(name: str, value: str) -> None:
    scope = signed("s3")
    scope["headers"].append((name.encode(), value.encode()))
    with pytest.raises(IncompleteSignature, match=f"must stand in the request once: {name}"):
        VERIFIER.verify(scope, b"")


def test_a_signature_covers_the_host_even_of_a_request_without_one() -> None:
    scope = with_header(signed(), "authorization", lambda value: value.replace("host;", ""))
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"host"]
    with pytest.raises(IncompleteSignature, match="'Host' must be a 'SignedHeader'"):
        VERIFIER.verify(scope, b"")


@pytest.mark.parametrize(
    "date", ["2026112T101010Z", "20261129T10101Z", "20261329T101010Z", "20261129T101010z", ""]
)
def test_a_date_that_is_none_is_refused(date: str) -> None:
    with pytest.raises(IncompleteSignature, match="X-Amz-Date"):
        VERIFIER.verify(with_header(signed(), "x-amz-date", lambda _: date), b"")


odd = st.text(max_size=30) | st.sampled_from([
    "",
    "AWS4-HMAC-SHA256",
    "UNSIGNED-PAYLOAD",
    "a/b/c/d/aws4_request",
    "host",
    "٣",
])
paths = st.binary(max_size=20).map(lambda raw: b"/" + raw) | st.sampled_from([
    b"*",
    b"",
    b"//[",
    b"http://x:y/",
    b"/%",
])


@settings(deadline=None, max_examples=300)
@given(
    credential=odd,
    signed_headers=odd,
    signature=odd,
    date=odd,
    stated=odd | st.none(),
    path=paths,
    query=st.binary(max_size=40),
)
def test_whatever_is_sent_is_refused_in_words(
    credential: str,
    signed_headers: str,
    signature: str,
    date: str,
    stated: str | None,
    path: bytes,
    query: bytes,
) -> None:
    day = date[:8]
    for claimed in (credential, f"{KEY.access_key}/{day}/{REGION}/s3/aws4_request"):
        parts = f"Credential={claimed}, SignedHeaders={signed_headers}, Signature={signature}"
        headers = [
            (b"host", b"h"),
            (b"authorization", f"{ALGORITHM} {parts}".encode()),
            (b"x-amz-date", date.encode()),
        ]
        headers += [] if stated is None else [(b"x-amz-content-sha256", stated.encode())]
        scope = {"method": "GET", "raw_path": path, "query_string": query, "headers": headers}
        with pytest.raises(SignatureError):
            VERIFIER.verify(scope, b"")


@settings(deadline=None, max_examples=300)
@given(path=paths, query=st.binary(max_size=40), date=odd)
def test_a_signature_over_anything_is_compared_without_a_fault(path: bytes, query: bytes, date: str) -> None:
    scope = signed("s3")
    now = next(value for name, value in scope["headers"] if name == b"x-amz-date")
    for stamp in (now, date.encode()):
        headers = [(name, stamp if name == b"x-amz-date" else value) for name, value in scope["headers"]]
        changed = {**scope, "raw_path": path, "query_string": query, "headers": headers}
        if (path, stamp) != (b"/", now) or query:
            with pytest.raises(SignatureError):
                VERIFIER.verify(changed, b"")
