"""The policies as deployed, against a stand-in that enforces IAM: the calls of the code pass, their neighbours do not.

The policies come from the deployed stacks, so that names and ARNs are filled in. S3, Kinesis, Secrets Manager and SNS
are called through moto's server; Kafka's own actions, which no stand-in serves, are put to moto's judge of policies.
"""

import json
from unittest import mock

import boto3
import pytest
from botocore.exceptions import ClientError
from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndTimestamp
from moto import settings as moto_settings
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.kinesis.responses import KinesisResponse
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.secretsmanager.responses import SecretsManagerResponse
from moto.sns.responses import SNSResponse

from mwaa.settings import Settings

REGION, ACCOUNT = "us-east-1", "123456789012"
NAME, OTHER = "least", "another"
DENIED = {"AccessDenied", "AccessDeniedException"}


@pytest.fixture(scope="module")
def policies(aws_url):
    """Role -> its policy documents, as CloudFormation has made them."""
    from mwaa import package
    from mwaa.bucket import Objects
    from mwaa.stacks import Stacks

    session = boto3.Session("AKIADEPLOYDEPLOYDEPL", "a-secret/with+signs", region_name=REGION)

    def client(service):
        return session.client(service, endpoint_url=aws_url)

    settings = Settings(name=NAME, prefix=NAME)
    values = settings.values(ACCOUNT)
    stacks = Stacks(client("cloudformation"), settings.stack, lambda line: None)
    for part in ("storage", "roles", "databricks", "api"):
        if part == "api":
            bucket = values["MwaaBucket"]
            openapi = package.ROOT / "mwaa" / "cloudformation" / "openapi.yaml"
            Objects(client("s3"), bucket).put("openapi.yaml", openapi)
            values["OpenApiLocation"] = f"s3://{bucket}/openapi.yaml"
        stacks.apply(stacks.plan(part, values), values)
        values |= stacks.outputs(part)
    iam, found = client("iam"), {}
    for role in ("mwaa", "rest-proxy", "connect", "databricks", "api"):
        names = iam.list_role_policies(RoleName=f"{NAME}-{role}")["PolicyNames"]
        documents = [
            iam.get_role_policy(RoleName=f"{NAME}-{role}", PolicyName=name)["PolicyDocument"]
            for name in names
        ]
        # The stand-in that made them has another account's number than the one that judges them.
        found[role] = json.loads(json.dumps(documents).replace("000000000000", ACCOUNT))
        assert found[role]
    return found


@pytest.fixture(scope="module")
def enforcing(policies):
    """Credentials of each role, in an AWS that enforces IAM: role -> what makes its clients."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    patch = pytest.MonkeyPatch()
    patch.setenv("MOTO_ACCOUNT_ID", ACCOUNT)
    # moto looks at the resource of S3's calls only; these are told what the others are about.
    patch.setattr(KinesisResponse, "_determine_resource", _stream_arn, raising=False)
    patch.setattr(SecretsManagerResponse, "_determine_resource", _secret_arn, raising=False)
    patch.setattr(SNSResponse, "_determine_resource", _topic_arn, raising=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    root = boto3.Session("root", "root", region_name=REGION)
    iam, sts, s3 = (root.client(name, endpoint_url=url) for name in ("iam", "sts", "s3"))
    for name in (NAME, OTHER):
        for bucket in (f"{name}-data-{ACCOUNT}", f"{name}-mwaa-{ACCOUNT}"):
            s3.create_bucket(Bucket=bucket)
            for key in (
                f"topics/{name}.pin/x.json",
                "answers/runs/1.json",
                f"streams/{name}/{name}/progress.json",
            ):
                s3.put_object(Bucket=bucket, Key=key, Body=b'{"streams": {}}')
        s3.put_object(Bucket=f"{name}-mwaa-{ACCOUNT}", Key="artefacts/rest_proxy-1.zip", Body=b"")
        kinesis = root.client("kinesis", endpoint_url=url)
        kinesis.create_stream(StreamName=f"streaming-{name}-pin", ShardCount=1)
        root.client("sns", endpoint_url=url).create_topic(Name=f"{name}-alarms")
        root.client("secretsmanager", endpoint_url=url).create_secret(
            Name=f"{name}/connections/pinterest_api",
            SecretString='{"conn_type": "http", "host": "https://api"}',
        )
    keys = {}
    for role, documents in policies.items():
        trust = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole"}],
        }
        arn = iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        for number, document in enumerate(documents):
            iam.put_role_policy(RoleName=role, PolicyName=str(number), PolicyDocument=json.dumps(document))
        keys[role] = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
    patch.setattr(moto_settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)  # from here on IAM is enforced

    def client(role, service):
        key = keys[role]
        session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"], key["SessionToken"], REGION)
        return session.client(service, endpoint_url=url)

    client.url, client.keys = url, keys
    yield client
    server.stop()
    patch.undo()


def _stream_arn(self):
    body = json.loads(self.body or "{}")
    name = body.get("StreamName") or body.get("StreamARN", "").rpartition("/")[2]
    if iterator := body.get("ShardIterator"):
        from moto.kinesis.utils import decompose_shard_iterator

        name = decompose_shard_iterator(iterator)[0]
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}" if name else "*"


def _secret_arn(self):
    name = json.loads(self.body).get("SecretId", "")
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}-a1B2c3"


def _topic_arn(self):
    return self._get_param("TopicArn") or self._get_param("TargetArn") or "*"


def refused(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return (
            error.response["Error"]["Code"] in DENIED
            or error.response["ResponseMetadata"]["HTTPStatusCode"] == 403
        )
    return False


@pytest.fixture
def airflow(enforcing, monkeypatch):
    """Airflow's connection aws_default with the credentials of the MWAA role."""
    key = enforcing.keys["mwaa"]
    connection = {
        "conn_type": "aws",
        "login": key["AccessKeyId"],
        "password": key["SecretAccessKey"],
        "extra": {
            "aws_session_token": key["SessionToken"],
            "endpoint_url": enforcing.url,
            "region_name": REGION,
        },
    }
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps(connection))


def test_the_dags_do_their_work_in_the_bucket(airflow):
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from pinterest_pipeline.hooks.answers import LATEST_KEY, AnswersHook
    from pinterest_pipeline.hooks.progress import StreamProgressHook

    bucket, s3 = f"{NAME}-data-{ACCOUNT}", S3Hook()
    assert s3.list_keys(bucket, prefix=f"topics/{NAME}.") == [f"topics/{NAME}.pin/x.json"]
    s3.copy_object("answers/runs/1.json", LATEST_KEY, bucket, bucket)
    assert AnswersHook(bucket=bucket).read() == {"streams": {}}
    assert StreamProgressHook(bucket=bucket, key=f"streams/{NAME}/{NAME}/progress.json").read() == {}
    s3.load_string("stop", f"streams/{NAME}/stop/run", bucket, replace=True)
    s3.get_conn().delete_object(Bucket=bucket, Key=f"streams/{NAME}/stop/run")


def test_the_dags_note_which_topics_the_objects_come_from(airflow):
    """As create_topics does; what it asks Kafka is among Kafka's own actions below."""
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook

    from pinterest_pipeline.topic_notes import TopicNotes

    topic, schema = f"{NAME}.pin", "main.pinterest"
    admin = mock.create_autospec(KafkaAdminClient, instance=True)
    admin.describe_cluster.return_value = {"cluster_id": "c"}
    admin.describe_topics.return_value = [
        {"name": topic, "error_code": 0, "topic_id": "t", "partitions": [1]}
    ]
    place = TopicPartition(topic, 0)
    admin.list_partition_offsets.return_value = {place: OffsetAndTimestamp(1, -1, None)}
    s3 = S3Hook().get_conn()
    # without notes the objects are looked at
    s3.get_object(Bucket=f"{NAME}-data-{ACCOUNT}", Key=f"topics/{NAME}.pin/x.json")
    notes = TopicNotes(admin, s3, f"{NAME}-data-{ACCOUNT}")
    for _ in range(2):
        notes.check([topic], schema=schema)
        notes.write([topic], schema=schema)


def test_the_dags_do_their_work_on_the_streams(airflow):
    from pinterest_pipeline.hooks.kinesis import KinesisHook

    kinesis, stream = KinesisHook(), f"streaming-{NAME}-pin"
    assert kinesis.describe_stream(stream)["OpenShardCount"] == 1
    assert not kinesis.create_stream(stream, 1)
    assert not kinesis.update_shard_count(stream, 1)
    client = kinesis.get_conn()
    client.update_shard_count(StreamName=stream, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    client.update_shard_count(StreamName=stream, TargetShardCount=1, ScalingType="UNIFORM_SCALING")
    shard = kinesis.list_shards(stream)[0]
    iterator = client.get_shard_iterator(
        StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )
    client.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)


def test_connections_and_alarms(airflow, enforcing):
    from airflow.providers.amazon.aws.hooks.sns import SnsHook

    secrets = enforcing("mwaa", "secretsmanager")
    secrets.get_secret_value(SecretId=f"{NAME}/connections/pinterest_api")
    assert refused(secrets.get_secret_value, SecretId=f"{OTHER}/connections/pinterest_api")
    assert refused(secrets.put_secret_value, SecretId=f"{NAME}/connections/pinterest_api", SecretString="{}")
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT}:{NAME}-alarms"
    SnsHook().publish_to_target(target_arn=topic, message="a run failed")
    assert refused(enforcing("mwaa", "sns").publish, TopicArn=topic.replace(NAME, OTHER), Message="x")


@pytest.mark.parametrize(
    ("service", "call", "arguments"),
    [
        ("s3", "list_objects_v2", {"Bucket": f"{OTHER}-data-{ACCOUNT}"}),
        ("s3", "get_object", {"Bucket": f"{OTHER}-data-{ACCOUNT}", "Key": f"topics/{OTHER}.pin/x.json"}),
        ("s3", "put_object", {"Bucket": f"{NAME}-data-{ACCOUNT}", "Key": f"topics/{NAME}.pin/x.json"}),
        ("s3", "put_object", {"Bucket": f"{NAME}-data-{ACCOUNT}", "Key": "answers/runs/1.json"}),
        ("s3", "delete_object", {"Bucket": f"{NAME}-data-{ACCOUNT}", "Key": f"topics/{NAME}.pin/x.json"}),
        ("s3", "put_object", {"Bucket": f"{NAME}-data-{ACCOUNT}", "Key": f"kafka/topics/{OTHER}.pin.json"}),
        ("s3", "delete_object", {"Bucket": f"{NAME}-data-{ACCOUNT}", "Key": f"kafka/topics/{NAME}.pin.json"}),
        ("s3", "put_object", {"Bucket": f"{NAME}-mwaa-{ACCOUNT}", "Key": "dags/mine.py"}),
        ("kinesis", "delete_stream", {"StreamName": f"streaming-{NAME}-pin"}),
        ("kinesis", "put_record", {"StreamName": f"streaming-{NAME}-pin", "Data": b"x", "PartitionKey": "1"}),
        ("kinesis", "describe_stream_summary", {"StreamName": f"streaming-{OTHER}-pin"}),
        ("kinesis", "create_stream", {"StreamName": "mine", "ShardCount": 1}),
    ],
)
def test_the_neighbours_of_the_dags_calls_are_refused(enforcing, service, call, arguments):
    assert refused(getattr(enforcing("mwaa", service), call), **arguments)


def test_the_rest_proxy_gets_its_archive_and_nothing_else(enforcing):
    s3 = enforcing("rest-proxy", "s3")
    s3.get_object(Bucket=f"{NAME}-mwaa-{ACCOUNT}", Key="artefacts/rest_proxy-1.zip")
    assert refused(s3.get_object, Bucket=f"{NAME}-mwaa-{ACCOUNT}", Key="answers/runs/1.json")
    assert refused(s3.get_object, Bucket=f"{NAME}-data-{ACCOUNT}", Key=f"topics/{NAME}.pin/x.json")
    assert refused(enforcing("rest-proxy", "kinesis").list_shards, StreamName=f"streaming-{NAME}-pin")


def test_the_sink_writes_its_topics_and_nothing_else(enforcing):
    s3 = enforcing("connect", "s3")
    s3.put_object(
        Bucket=f"{NAME}-data-{ACCOUNT}", Key=f"topics/{NAME}.geo/partition=0/{NAME}.geo+0+0000000000.json"
    )
    for key in ("answers/latest.json", f"topics/{OTHER}.pin/x.json", f"streams/{NAME}/{NAME}/progress.json"):
        assert refused(s3.put_object, Bucket=f"{NAME}-data-{ACCOUNT}", Key=key)
    assert refused(s3.put_object, Bucket=f"{OTHER}-data-{ACCOUNT}", Key=f"topics/{NAME}.pin/x.json")
    assert refused(s3.get_object, Bucket=f"{NAME}-data-{ACCOUNT}", Key=f"topics/{NAME}.pin/x.json")
    assert refused(s3.delete_object, Bucket=f"{NAME}-data-{ACCOUNT}", Key=f"topics/{NAME}.pin/x.json")


def test_the_notebooks_read_what_landed_and_cannot_change_it(enforcing):
    s3, bucket = enforcing("databricks", "s3"), f"{NAME}-data-{ACCOUNT}"
    s3.list_objects_v2(Bucket=bucket)
    s3.get_object(Bucket=bucket, Key=f"topics/{NAME}.pin/x.json")
    s3.put_object(Bucket=bucket, Key="answers/runs/2.json")
    s3.put_object(Bucket=bucket, Key=f"streams/{NAME}/{NAME}/progress.json", Body=b'{"streams": {}}')
    assert refused(s3.put_object, Bucket=bucket, Key=f"topics/{NAME}.pin/x.json")
    assert refused(s3.delete_object, Bucket=bucket, Key=f"topics/{NAME}.pin/x.json")
    assert refused(s3.list_objects_v2, Bucket=f"{NAME}-mwaa-{ACCOUNT}")
    kinesis = enforcing("databricks", "kinesis")
    kinesis.list_shards(StreamName=f"streaming-{NAME}-pin")
    assert refused(kinesis.put_record, StreamName=f"streaming-{NAME}-pin", Data=b"x", PartitionKey="1")


def test_the_api_reaches_the_streams_of_its_prefix_only(enforcing):
    kinesis = enforcing("api", "kinesis")
    kinesis.put_record(StreamName=f"streaming-{NAME}-pin", Data=b"x", PartitionKey="1")
    kinesis.create_stream(StreamName=f"streaming-{NAME}-new", ShardCount=1)
    kinesis.delete_stream(StreamName=f"streaming-{NAME}-new")
    kinesis.list_streams()
    assert refused(kinesis.put_record, StreamName=f"streaming-{OTHER}-pin", Data=b"x", PartitionKey="1")
    assert refused(kinesis.delete_stream, StreamName=f"streaming-{OTHER}-pin")


CLUSTER = f"arn:aws:kafka:{REGION}:{ACCOUNT}:cluster/{NAME}/0-1"
TOPIC = f"arn:aws:kafka:{REGION}:{ACCOUNT}:topic/{NAME}/0-1/"
GROUP = f"arn:aws:kafka:{REGION}:{ACCOUNT}:group/{NAME}/0-1/"


@pytest.mark.parametrize(
    ("role", "action", "resource", "allowed"),
    [
        ("mwaa", "kafka-cluster:Connect", CLUSTER, True),
        ("mwaa", "kafka-cluster:DescribeCluster", CLUSTER, True),
        ("mwaa", "kafka-cluster:CreateTopic", f"{TOPIC}{NAME}.pin", True),
        ("mwaa", "kafka-cluster:DescribeTopic", f"{TOPIC}{NAME}.pin", True),
        ("mwaa", "kafka-cluster:CreateTopic", f"{TOPIC}{OTHER}.pin", False),
        ("mwaa", "kafka-cluster:DeleteTopic", f"{TOPIC}{NAME}.pin", False),
        ("mwaa", "kafka-cluster:WriteData", f"{TOPIC}{NAME}.pin", False),
        ("mwaa", "kafka-cluster:Connect", CLUSTER.replace(f"/{NAME}/", f"/{OTHER}/"), False),
        ("mwaa", "kafkaconnect:ListConnectors", "*", True),
        ("mwaa", "kafkaconnect:DeleteConnector", "*", False),
        ("mwaa", "iam:PassRole", "*", False),
        ("rest-proxy", "kafka-cluster:Connect", CLUSTER, True),
        ("rest-proxy", "kafka-cluster:WriteDataIdempotently", CLUSTER, True),
        ("rest-proxy", "kafka-cluster:DescribeTopic", f"{TOPIC}{NAME}.pin", True),
        ("rest-proxy", "kafka-cluster:WriteData", f"{TOPIC}{NAME}.user", True),
        ("rest-proxy", "kafka-cluster:WriteData", f"{TOPIC}{NAME}.dead-letter", False),
        ("rest-proxy", "kafka-cluster:ReadData", f"{TOPIC}{NAME}.pin", False),
        ("rest-proxy", "kafka-cluster:CreateTopic", f"{TOPIC}{NAME}.pin", False),
        ("connect", "kafka-cluster:ReadData", f"{TOPIC}{NAME}.pin", True),
        ("connect", "kafka-cluster:WriteData", f"{TOPIC}{NAME}.dead-letter", True),
        ("connect", "kafka-cluster:WriteData", f"{TOPIC}{NAME}.pin", False),
        ("connect", "kafka-cluster:ReadData", f"{TOPIC}{OTHER}.pin", False),
        ("connect", "kafka-cluster:WriteData", f"{TOPIC}__amazon_msk_connect_offsets_{NAME}", True),
        ("connect", "kafka-cluster:AlterGroup", f"{GROUP}connect-{NAME}-s3-sink", True),
        ("connect", "kafka-cluster:AlterGroup", f"{GROUP}somebody-else", False),
    ],
)
def test_kafkas_own_actions(policies, role, action, resource, allowed):
    assert permitted(policies[role], action, resource) is allowed


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        (f"POST/topics/{NAME}.pin", True),
        (f"PUT/streams/streaming-{NAME}-pin/records", True),
        ("GET/streams", True),
        (f"DELETE/streams/streaming-{NAME}-pin", False),
        (f"POST/streams/streaming-{NAME}-pin", False),
    ],
)
def test_what_the_dags_may_call_of_the_api(policies, call, allowed):
    (resource,) = {
        each.split("/prod/")[0]
        for document in policies["mwaa"]
        for statement in document["Statement"]
        if statement["Action"] == "execute-api:Invoke"
        for each in statement["Resource"]
    }
    assert permitted(policies["mwaa"], "execute-api:Invoke", f"{resource}/prod/{call}") is allowed


def permitted(documents, action, resource):
    results = [
        IAMPolicy(json.dumps(document)).is_action_permitted(action, resource) for document in documents
    ]
    return PermissionResult.PERMITTED in results and PermissionResult.DENIED not in results
