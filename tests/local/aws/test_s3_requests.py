"""No object that can be written makes its bucket unreadable, whatever its key: refused with a reason, or held."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import boto3
import pytest
import requests
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

REGION = "us-east-1"
Call = Callable[..., requests.Response]


@pytest.fixture
def call(aws: Any, key: Credentials) -> Call:
    """Sign and send a request to S3, its path as it stands."""

    def send(method: str, path: str, body: bytes = b"", **headers: str) -> requests.Response:
        request = AWSRequest(method, aws.url + path, data=body, headers=headers)
        S3SigV4Auth(key, "s3", REGION).add_auth(request)
        prepared = requests.Request(method, aws.url, data=body, headers=dict(request.headers)).prepare()
        prepared.url = aws.url + path
        return requests.Session().send(prepared, timeout=10)

    return send


@pytest.fixture
def bucket(call: Call) -> str:
    name = f"keys-{os.urandom(4).hex()}"
    assert call("PUT", f"/{name}").status_code == 200
    assert call("PUT", f"/{name}/good", b"content").status_code == 200
    return name


def listed(call: Call, bucket: str) -> list[str | None]:
    """The keys of a listing as Hadoop asks for it: without URL encoding."""
    reply = call("GET", f"/{bucket}?list-type=2")
    root = ElementTree.fromstring(reply.content)
    return [found.text for found in root.iter("{http://s3.amazonaws.com/doc/2006-03-01/}Key")]


def code(reply: requests.Response) -> tuple[int, str]:
    found = re.search("<Code>(.*?)</Code>", reply.text)
    return reply.status_code, found[1] if found else reply.text


UNLISTABLE = [*map(chr, range(9)), "\v", "\f", "\r", "\x0e", "\x1b", "\x1f", "\ufffe", "\uffff"]


@pytest.mark.parametrize("character", UNLISTABLE, ids=lambda c: f"U+{ord(c):04X}")
def test_a_key_that_no_listing_can_carry_is_refused(character: str, call: Call, bucket: str) -> None:
    path = f"/{bucket}/topics/{quote(character)}x"
    assert code(call("PUT", path, b"poison")) == (400, "InvalidArgument")
    copied = call("PUT", path, **{"X-Amz-Copy-Source": f"{bucket}/good"})
    assert code(copied) == (400, "InvalidArgument")
    assert code(call("POST", f"{path}?uploads")) == (400, "InvalidArgument")
    assert f"U+{ord(character):04X}" in copied.text
    assert listed(call, bucket) == ["good"]


@pytest.mark.parametrize("raw", ["%FF", "%ED%A0%80", "%C0%80", "%F4%90%80%80", "ok%E2%82"])
def test_a_key_that_is_no_utf_8_is_refused(raw: str, call: Call, bucket: str) -> None:
    assert code(call("PUT", f"/{bucket}/{raw}", b"poison")) == (400, "InvalidURI")
    assert listed(call, bucket) == ["good"]


def test_a_form_is_not_taken(call: Call, bucket: str) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="key"\r\n\r\n\0poison\r\n--x--\r\n'
    reply = call("POST", f"/{bucket}", form, **{"Content-Type": "multipart/form-data; boundary=x"})
    assert code(reply) == (501, "NotImplemented")
    assert listed(call, bucket) == ["good"]


def test_a_deletion_that_names_no_character_of_xml_is_malformed(call: Call, bucket: str) -> None:
    for reference in ("&#0;", "&#1;", "&#xFFFF;", "\x01"):
        body = f"<Delete><Object><Key>{reference}</Key></Object></Delete>".encode()
        assert code(call("POST", f"/{bucket}?delete", body)) == (400, "MalformedXML"), reference
    assert call("DELETE", f"/{bucket}/%00x").status_code == 204  # what an older stack took can still go
    assert listed(call, bucket) == ["good"]


def test_a_key_has_1024_bytes_and_no_more(call: Call, bucket: str) -> None:
    longest = "é" * 511 + "/x"
    assert call("PUT", f"/{bucket}/{quote(longest)}", b"content").status_code == 200
    assert code(call("PUT", f"/{bucket}/{quote(longest)}y", b"content")) == (400, "KeyTooLongError")
    assert listed(call, bucket) == ["good", longest]
    assert call("GET", f"/{bucket}/{quote(longest)}").content == b"content"


@pytest.mark.parametrize("name", ["bucket%0a", "%20bucket", "..", "%2e%2e", ".ministack", "a"])
def test_a_bucket_has_a_name_of_a_bucket(name: str, call: Call) -> None:
    reply = call("PUT", f"/{name}")
    assert reply.status_code in {400, 403, 405}, reply.text
    assert [
        path.name for path in ElementTree.fromstring(call("GET", "/").content).iter() if path.text == name
    ] == []


# Keys that a path on disk cannot hold as they stand, or that are others' files there.
STRANGE = [
    "a//b",
    "a/",
    "a",
    "a/b",
    "./a",
    "a/./b",
    "../escaped",
    "a/../../../../escaped",
    "/etc/escaped",
    "good.meta.json",
    "good.tmp",
    ".ministack-keys/x",
    ".ministack-keys",
    "\\..\\escaped",
    "~/escaped",
    "tab\tand\nline",
    " space ",
    "segment-" + "x" * 300,
    "\u202e\u2028\x7f\x85",
    "good/below/an/object",
]


def test_strange_keys_are_held_side_by_side_and_outlive_a_restart(
    start_part: Callable[..., Any], aws_config: Callable[..., dict[str, Any]], key: Credentials
) -> None:
    config = aws_config()
    make: Any = boto3.client

    def client(url: str) -> Any:
        credentials = {"aws_access_key_id": key.access_key, "aws_secret_access_key": key.secret_key}
        plain = Config(s3={"addressing_style": "path"})
        return make("s3", endpoint_url=url, region_name=REGION, config=plain, **credentials)

    def held(s3: Any) -> dict[str, bytes]:
        listing = s3.list_objects_v2(Bucket="strange")["Contents"]
        return {o["Key"]: s3.get_object(Bucket="strange", Key=o["Key"])["Body"].read() for o in listing}

    first = start_part("local.aws", config)
    s3 = client(first.url)
    s3.create_bucket(Bucket="strange")
    content = {name: name.encode() for name in ["good", *STRANGE]}
    for name, body in content.items():
        s3.put_object(Bucket="strange", Key=name, Body=body)
    assert held(s3) == content
    first.process.kill()
    first.process.wait(timeout=30)
    assert held(client(start_part("local.aws", config).url)) == content
    folder = Path(config["data_dir"]).parent
    assert [path for path in folder.rglob("*escaped*") if "strange" not in path.parts] == []
