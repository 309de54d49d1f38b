"""The AWS stand-in as its users meet it: unmodified boto3, and whoever comes without the key."""

import io
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REGION = "us-east-1"
ONCE = Config(retries={"total_max_attempts": 1})
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)
HOSTILE_KEYS = [
    "plain",
    "with space/and+plus",
    "topics/p.pin/partition=0/p.pin+0+0000000000.json",
    "q?x=1&y=2#z",
    "%41 is not A",
    "Zoë/日本/😀",
    "(quotes)'!*~",
    "a//b",
]


def client(url: str, key: Credentials, service: str, **changes: Any) -> Any:
    options = {"aws_access_key_id": key.access_key, "aws_secret_access_key": key.secret_key, **changes}
    return boto3.client(service, endpoint_url=url, region_name=REGION, **options)


@pytest.fixture
def bucket(aws: Any, key: Credentials) -> str:
    name = f"bucket-{os.urandom(4).hex()}"
    client(aws.url, key, "s3").create_bucket(Bucket=name)
    return name


def refusal(call: Callable[[], object]) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call()
    error = caught.value.response
    return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]


@pytest.mark.parametrize("object_key", HOSTILE_KEYS)
def test_objects_under_hostile_keys(object_key: str, aws: Any, key: Credentials, bucket: str) -> None:
    s3 = client(aws.url, key, "s3")
    s3.put_object(Bucket=bucket, Key=object_key, Body=object_key.encode(), Metadata={"from": "test"})
    assert s3.get_object(Bucket=bucket, Key=object_key)["Body"].read() == object_key.encode()
    assert s3.head_object(Bucket=bucket, Key=object_key)["Metadata"] == {"from": "test"}
    assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix=object_key[:3])["Contents"]] == [
        object_key
    ]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": object_key})
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == object_key.encode()
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": object_key}, {"Key": "copy"}]})
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_conditions_of_a_write_are_evaluated(aws: Any, key: Credentials, bucket: str) -> None:
    s3 = client(aws.url, key, "s3")
    tag = s3.put_object(Bucket=bucket, Key="k", Body=b"a", IfNoneMatch="*", Metadata={"m": "1"})["ETag"]
    denied = (412, "PreconditionFailed")
    assert refusal(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"b", IfNoneMatch="*"))[:2] == denied
    assert refusal(lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"b", IfMatch='"0"'))[:2] == denied
    found = s3.get_object(Bucket=bucket, Key="k")
    assert (found["Body"].read(), found["Metadata"]) == (b"a", {"m": "1"})
    s3.put_object(Bucket=bucket, Key="k", Body=b"ab", IfMatch=tag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"ab"


def test_listing_starts_after_a_key_and_goes_on_by_pages(aws: Any, key: Credentials, bucket: str) -> None:
    s3 = client(aws.url, key, "s3")
    keys = [f"topics/p+{number:03d}" for number in range(7)]
    for name in keys:
        s3.put_object(Bucket=bucket, Key=name, Body=b"")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, StartAfter=keys[1], PaginationConfig={"PageSize": 2}
    )
    assert [o["Key"] for page in pages for o in page["Contents"]] == keys[2:]


def test_a_large_upload_in_parts(aws: Any, key: Credentials, bucket: str) -> None:
    s3 = client(aws.url, key, "s3")
    content = os.urandom(6 * 1024**2) * 2
    parts = TransferConfig(multipart_threshold=1, multipart_chunksize=5 * 1024**2)
    s3.upload_fileobj(io.BytesIO(content), bucket, "big", Config=parts)
    assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == content
    assert s3.head_object(Bucket=bucket, Key="big")["ETag"].endswith('-3"')


def test_a_presigned_url_opens_one_object(aws: Any, key: Credentials, bucket: str) -> None:
    s3 = client(aws.url, key, "s3", config=Config(signature_version="s3v4"))
    s3.put_object(Bucket=bucket, Key="a b+c", Body=b"content")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "a b+c"})
    assert requests.get(url, timeout=60).content == b"content"
    assert requests.get(url.replace("a%20b", "other"), timeout=60).status_code == 403
    assert requests.delete(url, timeout=60).status_code == 403


def test_streams_secrets_and_identity(aws: Any, key: Credentials) -> None:
    kinesis = client(aws.url, key, "kinesis")
    kinesis.create_stream(StreamName="front", ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName="front", WaiterConfig={"Delay": 1})
    data = [f"{number} é😀\u2028".encode() for number in range(20)]
    put = kinesis.put_records(
        StreamName="front", Records=[{"Data": d, "PartitionKey": str(i)} for i, d in enumerate(data)]
    )
    assert put["FailedRecordCount"] == 0
    read = []
    for shard in kinesis.list_shards(StreamName="front")["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName="front", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        read += [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]]
    assert sorted(read) == sorted(data)

    secrets = client(aws.url, key, "secretsmanager")
    secrets.create_secret(Name="airflow/connections/x", SecretString="http://u:p@h")
    assert secrets.get_secret_value(SecretId="airflow/connections/x")["SecretString"] == "http://u:p@h"
    assert client(aws.url, key, "sts").get_caller_identity()["Account"] == "000000000000"


CALLS = [
    ("s3", "list_buckets", "SignatureDoesNotMatch", "InvalidAccessKeyId"),
    ("kinesis", "list_streams", "InvalidSignatureException", "UnrecognizedClientException"),
    ("secretsmanager", "list_secrets", "InvalidSignatureException", "UnrecognizedClientException"),
    ("sts", "get_caller_identity", "SignatureDoesNotMatch", "InvalidClientTokenId"),
    ("cloudformation", "list_stacks", "SignatureDoesNotMatch", "InvalidClientTokenId"),
    ("kafkaconnect", "list_connectors", "InvalidSignatureException", "UnrecognizedClientException"),
]


@pytest.mark.parametrize(("service", "call", "mismatch", "unknown"), CALLS)
def test_a_wrong_key_is_refused_in_the_services_own_words(
    service: str, call: str, mismatch: str, unknown: str, aws: Any, key: Credentials
) -> None:
    wrong = client(aws.url, key, service, aws_secret_access_key="wrong", config=ONCE)
    assert refusal(getattr(wrong, call)) == (403, mismatch, MISMATCH)
    for other in ("AKIAOTHER", "test", "000000000000"):  # the last two are keys that ministack itself lets in
        stranger = client(aws.url, key, service, aws_access_key_id=other, config=ONCE)
        assert refusal(getattr(stranger, call)) == (
            403,
            unknown,
            "The security token included in the request is invalid.",
        )


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "expected"),
    [
        ("GET", "/", {}, b"", "<Code>AccessDenied</Code>"),
        ("PUT", "/a-bucket", {}, b"", "<Code>AccessDenied</Code>"),
        ("POST", "/_ministack/reset", {}, b"", "<Code>AccessDenied</Code>"),
        ("POST", "/_ministack/config", {}, b"{}", "<Code>AccessDenied</Code>"),
        ("GET", "/_localstack/health", {}, b"", "<Code>AccessDenied</Code>"),
        ("OPTIONS", "/a-bucket", {}, b"", "<Code>AccessDenied</Code>"),
        ("POST", "/_ministack/health", {}, b"", "<Code>AccessDenied</Code>"),
        (
            "POST",
            "/",
            {"X-Amz-Target": "Kinesis_20131202.ListStreams", "Content-Type": "application/x-amz-json-1.1"},
            b"{}",
            '{"__type": "MissingAuthenticationTokenException", "message": "Missing Authentication Token"}',
        ),
        (
            "POST",
            "/",
            {"Content-Type": "application/x-www-form-urlencoded"},
            b"Action=GetCallerIdentity&Version=2011-06-15",
            "<Code>MissingAuthenticationToken</Code>",
        ),
    ],
)
def test_nothing_unsigned_passes(
    method: str, path: str, headers: dict[str, str], body: bytes, expected: str, aws: Any
) -> None:
    reply = requests.request(method, aws.url + path, headers=headers, data=body, timeout=60)
    assert reply.status_code == 403
    assert expected in reply.text


def test_health_is_open_and_tells_no_secret(aws: Any, key: Credentials) -> None:
    reply = requests.get(f"{aws.url}/_ministack/health", timeout=60)
    assert reply.status_code == 200
    assert key.access_key not in reply.text


def sent(url: str, service: str, body: bytes, real_body: bytes, key: Credentials) -> requests.Response:
    """A request that was signed over one body and brings another."""
    kind = S3SigV4Auth if service == "s3" else SigV4Auth
    path, headers = ("/tampered/key", {}) if service == "s3" else (
        "/",
        {"X-Amz-Target": "Kinesis_20131202.CreateStream", "Content-Type": "application/x-amz-json-1.1"},
    )  # fmt: skip
    request = AWSRequest("PUT" if service == "s3" else "POST", url + path, data=body, headers=headers)
    kind(key, service, REGION).add_auth(request)
    return requests.request(
        request.method, url + path, data=real_body, headers=dict(request.headers), timeout=60
    )


def test_a_tampered_body_is_refused_and_does_nothing(aws: Any, key: Credentials) -> None:
    s3 = client(aws.url, key, "s3")
    s3.create_bucket(Bucket="tampered")
    reply = sent(aws.url, "s3", b"good", b"evil", key)
    assert (reply.status_code, "XAmzContentSHA256Mismatch" in reply.text) == (403, True)
    assert "Contents" not in s3.list_objects_v2(Bucket="tampered")

    good = json.dumps({"StreamName": "good", "ShardCount": 1}).encode()
    reply = sent(aws.url, "kinesis", good, good.replace(b"good", b"evil"), key)
    assert (reply.status_code, reply.json()["__type"]) == (403, "InvalidSignatureException")
    assert not {"good", "evil"} & {*client(aws.url, key, "kinesis").list_streams()["StreamNames"]}


def test_a_made_up_session_token_is_refused_in_the_services_own_words(aws: Any, key: Credentials) -> None:
    for service, call, _, unknown in CALLS:
        made_up = client(aws.url, key, service, aws_session_token="made-up", config=ONCE)
        expected = (400, "InvalidToken") if service == "s3" else (403, unknown)
        assert refusal(getattr(made_up, call))[:2] == expected, service
    s3 = client(
        aws.url, key, "s3", aws_session_token="made-up", config=Config(signature_version="s3v4", retries=None)
    )
    url = s3.generate_presigned_url("list_objects_v2", Params={"Bucket": "bucket"})
    reply = requests.get(url, timeout=10)
    assert (reply.status_code, "<Code>InvalidToken</Code>" in reply.text) == (400, True)


@pytest.mark.parametrize(
    ("service", "target"),
    [
        ("s3", "Kinesis_20131202.CreateStream"),
        ("kinesis", "secretsmanager.CreateSecret"),
        ("secretsmanager", "Kinesis_20131202.CreateStream"),
        ("kinesis", "Unknown_20131202.CreateStream"),
        ("kafkaconnect", "Kinesis_20131202.CreateStream"),
    ],
)
def test_a_signature_opens_the_service_it_is_for(
    service: str, target: str, aws: Any, key: Credentials
) -> None:
    body = json.dumps({
        "StreamName": "crossed",
        "Name": "crossed",
        "SecretString": "x",
        "ShardCount": 1,
    }).encode()
    headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", f"{aws.url}/", data=body, headers=headers)
    (S3SigV4Auth if service == "s3" else SigV4Auth)(key, service, REGION).add_auth(request)
    reply = requests.post(request.url, data=body, headers=dict(request.headers), timeout=10)
    assert (reply.status_code, reply.json()["__type"]) == (403, "InvalidSignatureException")
    assert "correct service" in reply.json()["message"]
    assert "crossed" not in client(aws.url, key, "kinesis").list_streams()["StreamNames"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="},
        {"Content-MD5": "no digest"},
        {"X-Amz-Checksum-Crc32": "AAAAAA=="},
        {"X-Amz-Checksum-Crc32": "none"},
        {"X-Amz-Checksum-Sha256": "AAAA"},
        {"X-Amz-Checksum-Crc99": "AAAAAA=="},
        {"X-Amz-Checksum-Algorithm": "CRC99"},
        {"X-Amz-Sdk-Checksum-Algorithm": "CRC99"},
        {"X-Amz-Trailer": "x-amz-checksum-crc32"},
    ],
    ids=str,
)
def test_a_checksum_that_is_wrong_or_unknown_is_refused(
    headers: dict[str, str], aws: Any, key: Credentials, bucket: str
) -> None:
    request = AWSRequest("PUT", f"{aws.url}/{bucket}/key", data=b"content", headers=headers)
    S3SigV4Auth(key, "s3", REGION).add_auth(request)
    reply = requests.put(request.url, data=b"content", headers=dict(request.headers), timeout=10)
    assert reply.status_code == 400, reply.text
    assert "Contents" not in client(aws.url, key, "s3").list_objects_v2(Bucket=bucket)


def test_an_endless_body_is_refused_before_it_is_read(aws: Any, key: Credentials) -> None:
    request = AWSRequest("PUT", f"{aws.url}/bucket/key", headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
    S3SigV4Auth(key, "s3", REGION).add_auth(request)
    headers = {**dict(request.headers), "Content-Length": str(2**40)}
    prepared = requests.Request("PUT", request.url, headers=headers).prepare()
    prepared.headers["Content-Length"] = headers["Content-Length"]
    reply = requests.Session().send(prepared, timeout=60)
    assert reply.status_code == 413
    assert "<Code>EntityTooLarge</Code>" in reply.text


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    object_key=st.text(
        st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="/\\."), min_size=1, max_size=40
    )
)
def test_any_key_comes_back_as_it_went(object_key: str, aws: Any, key: Credentials) -> None:
    s3 = client(aws.url, key, "s3")
    s3.create_bucket(Bucket="any-key")
    s3.put_object(Bucket="any-key", Key=object_key, Body=b"x")
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="any-key")["Contents"]] == [object_key]
    s3.delete_object(Bucket="any-key", Key=object_key)


def test_state_outlives_a_restart_and_is_private(
    start_part: Callable[..., Any], aws_config: Callable[..., dict[str, Any]], key: Credentials
) -> None:
    config = aws_config()
    first = start_part("local.aws", config)
    client(first.url, key, "s3").create_bucket(Bucket="kept")
    client(first.url, key, "s3").put_object(Bucket="kept", Key="a+b", Body=b"content")
    kinesis = client(first.url, key, "kinesis")
    kinesis.create_stream(StreamName="kept", ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName="kept", WaiterConfig={"Delay": 1})
    put = kinesis.put_record(StreamName="kept", Data=b"\xff\x00data", PartitionKey="1")
    client(first.url, key, "secretsmanager").create_secret(Name="kept", SecretString="kept secret")
    first.process.terminate()
    assert first.process.wait(timeout=120) == 0

    second = start_part("local.aws", config)
    assert client(second.url, key, "s3").get_object(Bucket="kept", Key="a+b")["Body"].read() == b"content"
    kinesis = client(second.url, key, "kinesis")
    iterator = kinesis.get_shard_iterator(
        StreamName="kept", ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = kinesis.get_records(ShardIterator=iterator)["Records"]
    assert [(r["Data"], r["SequenceNumber"]) for r in records] == [(b"\xff\x00data", put["SequenceNumber"])]
    later = kinesis.put_record(StreamName="kept", Data=b"later", PartitionKey="1")["SequenceNumber"]
    assert int(later) > int(put["SequenceNumber"])
    secrets = client(second.url, key, "secretsmanager")
    assert secrets.get_secret_value(SecretId="kept")["SecretString"] == "kept secret"

    files = [path for path in Path(config["data_dir"]).rglob("*") if path.is_file()]
    assert any(path.parent.name == "state" for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in files} == {0}
    assert key.secret_key not in "".join(first.log + second.log)
