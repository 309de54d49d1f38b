"""The templates on the laptop's AWS: deployed, deployed again, and after the stand-in was killed."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.__main__ import read_answers
from local.stack import prepare
from local.stack.errors import StackError
from local.stack.settings import DEFAULT_PORTS, Stack


@pytest.fixture
def stack_of(tmp_path, key):
    """Make the stack whose AWS is this part."""

    def make(part):
        ports = DEFAULT_PORTS | {"aws": urlsplit(part.url).port}
        credentials = {"aws_access_key_id": key.access_key, "aws_secret_access_key": key.secret_key}
        return Stack(Path(tmp_path), ports, credentials, "0123456789abcdef")

    return make


def client(stack, service):
    return prepare.aws_client(stack, service)


def test_templates_are_deployed_and_then_left_alone(start_part, aws_config, stack_of):
    stack = stack_of(start_part("local.aws", aws_config()))
    prepare.deploy_templates(stack)
    cloudformation = client(stack, "cloudformation")
    made = {each["StackName"]: each["StackStatus"] for each in cloudformation.describe_stacks()["Stacks"]}
    assert made == {f"pinterest-{part}": "CREATE_COMPLETE" for part in prepare.TEMPLATES}
    assert stack.bucket in {each["Name"] for each in client(stack, "s3").list_buckets()["Buckets"]}
    streams = [f"streaming-pinterest-{table}" for table in ("geo", "pin", "user")]
    assert client(stack, "kinesis").list_streams()["StreamNames"] == streams
    shards = client(stack, "kinesis").describe_stream_summary(StreamName=streams[0])
    assert shards["StreamDescriptionSummary"]["OpenShardCount"] == 1
    policy = client(stack, "s3").get_bucket_policy(Bucket=stack.bucket)["Policy"]
    assert "aws:SecureTransport" in policy

    before = {name: events(cloudformation, name) for name in made}
    prepare.deploy_templates(stack)
    assert {name: events(cloudformation, name) for name in made} == before


def events(cloudformation, name):
    return [each["EventId"] for each in cloudformation.describe_stack_events(StackName=name)["StackEvents"]]


def test_a_stand_in_that_was_killed_has_its_stacks_and_streams(start_part, aws_config, stack_of):
    config = aws_config()
    part = start_part("local.aws", config)
    stack = stack_of(part)
    prepare.deploy_templates(stack)
    put = client(stack, "kinesis").put_record(
        StreamName="streaming-pinterest-pin", Data=b"x", PartitionKey="1"
    )
    cloudformation = client(stack, "cloudformation")
    before = {name: events(cloudformation, f"pinterest-{name}") for name in prepare.TEMPLATES}
    part.process.kill()
    part.process.wait(30)

    stack = stack_of(start_part("local.aws", config))
    prepare.deploy_templates(stack)
    cloudformation = client(stack, "cloudformation")
    assert {name: events(cloudformation, f"pinterest-{name}") for name in prepare.TEMPLATES} == before
    kinesis = client(stack, "kinesis")
    streams = [f"streaming-pinterest-{table}" for table in ("geo", "pin", "user")]
    assert kinesis.list_streams()["StreamNames"] == streams
    iterator = kinesis.get_shard_iterator(
        StreamName="streaming-pinterest-pin", ShardId=put["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = kinesis.get_records(ShardIterator=iterator)["Records"]
    assert (record["Data"], record["SequenceNumber"]) == (b"x", put["SequenceNumber"])


def test_the_published_answers_are_read_or_refused_with_the_way_out(start_part, aws_config, stack_of):
    stack = stack_of(start_part("local.aws", aws_config()))
    with pytest.raises(StackError, match=r"^Nothing is published yet\. Run: make demo"):
        read_answers(stack)
    s3 = client(stack, "s3")
    s3.create_bucket(Bucket=stack.bucket)
    text = '{"answers": "\x7f\x9b2J\u202eé😀"}'
    s3.put_object(Bucket=stack.bucket, Key="answers/latest.json", Body=text.encode())
    assert read_answers(stack) == text
    for body in (b"", b"{", b"\xff", text.encode("utf-16"), b"[" * 20_000):
        s3.put_object(Bucket=stack.bucket, Key="answers/latest.json", Body=body)
        with pytest.raises(StackError, match=r"^answers/latest\.json is not what the batch publishes"):
            read_answers(stack)


def test_resources_without_their_stacks_are_left_as_they_are(start_part, aws_config, stack_of):
    config = aws_config()
    part = start_part("local.aws", config)
    stack = stack_of(part)
    prepare.deploy_templates(stack)
    client(stack, "s3").put_object(Bucket=stack.bucket, Key="topics/x", Body=b"landed")
    part.process.kill()
    part.process.wait(30)
    shutil.rmtree(Path(config["data_dir"]) / "state")

    stack = stack_of(start_part("local.aws", config))
    kinesis = client(stack, "kinesis")
    kinesis.create_stream(StreamName="streaming-pinterest-pin", ShardCount=2)
    kinesis.put_record(StreamName="streaming-pinterest-pin", Data=b"x", PartitionKey="1")
    prepare.deploy_templates(stack)
    assert client(stack, "s3").get_object(Bucket=stack.bucket, Key="topics/x")["Body"].read() == b"landed"
    summary = kinesis.describe_stream_summary(StreamName="streaming-pinterest-pin")
    assert summary["StreamDescriptionSummary"]["OpenShardCount"] == 2
