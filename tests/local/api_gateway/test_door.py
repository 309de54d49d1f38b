"""Who gets in, and what API Gateway says to the others: exact status and message."""

import json
from typing import Any

import pytest
import requests
from botocore.credentials import Credentials

MISSING = (403, {"message": "Missing Authentication Token"})


def seen(reply: requests.Response) -> tuple[int, dict[str, str]]:
    return reply.status_code, reply.json()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/streams"),
        ("PUT", "/streams/a/records"),
        ("POST", "/topics/pinterest.pin"),
        ("GET", "/topics/a/b"),
    ],
)
def test_unsigned_requests_are_refused(method: str, path: str, api: Any) -> None:
    reply = requests.request(method, api.url + path, timeout=60)
    assert seen(reply) == MISSING
    assert reply.headers["x-amzn-ErrorType"] == "MissingAuthenticationTokenException"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("GET", "/"),
        ("GET", "/topics"),
        ("GET", "/topics/"),
        ("PATCH", "/streams"),
        ("PUT", "/streams/a"),
        ("PUT", "/streams/a/record/b"),
        ("PUT", "/streams//record"),
    ],
)
def test_a_route_that_is_not_in_the_file_is_no_route(method: str, path: str, api: Any) -> None:
    assert seen(api.call(method, path)) == MISSING


def test_another_stage_is_forbidden(api: Any) -> None:
    assert seen(requests.get(api.url.replace("/test", "/prod") + "/streams", timeout=60)) == (
        403,
        {"message": "Forbidden"},
    )


def test_a_wrong_signature_is_refused_in_awss_words(api: Any, key: Credentials) -> None:
    mismatch = (
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details."
    )
    wrong = api.call("GET", "/streams", credentials=Credentials(key.access_key, "wrong"))
    assert seen(wrong) == (403, {"message": mismatch})
    assert wrong.headers["x-amzn-ErrorType"] == "InvalidSignatureException"
    tampered = api.call("POST", "/streams/a", b'{"ShardCount": 1}', sent=b'{"ShardCount": 9}')
    assert seen(tampered) == (403, {"message": mismatch})
    unknown = api.call("GET", "/streams", credentials=Credentials("AKIAOTHER", "x"))
    assert seen(unknown) == (403, {"message": "The security token included in the request is invalid."})
    assert unknown.headers["x-amzn-ErrorType"] == "UnrecognizedClientException"
    assert seen(api.call("GET", "/streams", service="kinesis")) == (
        403,
        {"message": "Credential should be scoped to correct service: 'execute-api'."},
    )
    assert api.call("GET", "/streams", region="eu-west-1").status_code == 403
    basic = requests.get(f"{api.url}/streams", auth=("user", "password"), timeout=60)
    assert (basic.status_code, basic.headers["x-amzn-ErrorType"]) == (403, "IncompleteSignatureException")
    assert "dXNlcjpwYXNzd29yZA" not in basic.text


def test_a_made_up_session_token_is_refused(api: Any, key: Credentials) -> None:
    session = Credentials(key.access_key, key.secret_key, "made-up")
    reply = api.call("GET", "/streams", credentials=session)
    assert reply.status_code == 403
    assert reply.json()["message"].startswith("The security token included in the request is invalid")
    assert reply.headers["x-amzn-ErrorType"] == "UnrecognizedClientException"


def test_health_needs_no_signature(api: Any) -> None:
    assert requests.get(api.url.replace("/test", "/ping"), timeout=60).text == "healthy"


def test_a_body_may_be_ten_mebibytes_and_no_byte_more(api: Any) -> None:
    limit = 10 * 1024**2
    body = json.dumps({"records": []}).encode()
    assert api.call("PUT", "/streams/a/records", body.ljust(limit)).status_code == 400
    over = api.call("PUT", "/streams/a/records", body.ljust(limit + 1))
    assert seen(over) == (413, {"message": "Request Too Long"})


def test_a_request_that_no_template_is_for_is_unsupported(api: Any) -> None:
    reply = api.call("PUT", "/streams/a/records", b"<x/>", headers={"Content-Type": "text/xml"})
    assert seen(reply) == (415, {"message": "Unsupported Media Type"})
