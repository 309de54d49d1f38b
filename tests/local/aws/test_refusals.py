"""What AWS refuses, or leaves open, and the stand-in with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from mwaa.deployment import Deployment
from mwaa.errors import StackError
from mwaa.settings import Settings
from mwaa.stacks import TEMPLATES, Stacks, rendered

NETWORK = {"Name": "refusals", "WayOut": "none"}


@pytest.fixture
def client(aws: Any, key: Credentials) -> Callable[[str], Any]:
    session = boto3.Session(key.access_key, key.secret_key, region_name="us-east-1")
    return lambda service: session.client(service, endpoint_url=aws.url)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("create_security_group", {"GroupName": "g", "Description": "what's in it"}),
        (
            "authorize_security_group_ingress",
            {
                "IpPermissions": [
                    {"IpProtocol": "tcp", "UserIdGroupPairs": [{"Description": "MWAA's own parts"}]}
                ]
            },
        ),
        (
            "authorize_security_group_egress",
            {
                "IpPermissions": [
                    {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/8", "Description": "x" * 256}]}
                ]
            },
        ),
    ],
)
def test_a_description_that_ec2_refuses_is_refused(
    client: Callable[[str], Any], call: str, arguments: dict[str, Any]
) -> None:
    ec2 = client("ec2")
    if call.startswith("authorize"):
        groups = ec2.describe_security_groups()["SecurityGroups"]
        arguments = {**arguments, "GroupId": groups[0]["GroupId"]}
    with pytest.raises(ClientError, match="Invalid rule description") as refused:
        getattr(ec2, call)(**arguments)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterValue"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("the parts of MWAA", "MWAA's own parts"),
        ("GroupDescription: The brokers", "GroupDescription: What's Kafka"),
        ("the load balancer\n", "the load balancer\u2019s machines\n"),
    ],
)
def test_a_network_with_such_a_description_is_rolled_back(
    client: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, right: str, wrong: str
) -> None:
    text = (TEMPLATES / "network.yaml").read_text()
    assert right in text
    monkeypatch.setattr("mwaa.stacks.rendered", lambda part, values: text.replace(right, wrong, 1))
    stacks = Stacks(client("cloudformation"), lambda part: "refusals-wrong", lambda line: None)
    try:
        with pytest.raises(StackError, match=r"is in ROLLBACK_COMPLETE: .*Invalid rule description"):
            stacks.apply(stacks.plan("network", NETWORK), NETWORK)
    finally:
        stacks.delete("network")


def test_the_network_as_it_is_can_be_created_and_deleted(client: Callable[[str], Any]) -> None:
    assert "the parts of MWAA" in rendered("network", NETWORK)
    stacks = Stacks(client("cloudformation"), lambda part: "refusals-right", lambda line: None)
    stacks.apply(stacks.plan("network", NETWORK), NETWORK)
    group = stacks.outputs("network")["AirflowSecurityGroupId"]
    (found,) = client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert [pair["GroupId"] for rule in found["IpPermissions"] for pair in rule["UserIdGroupPairs"]] == [
        group
    ]
    assert stacks.delete("network")


def test_alarms_on_metric_math_are_taken(client: Callable[[str], Any]) -> None:
    values = {"Name": "ringing", "Prefix": "p", "KafkaClusterName": "k", "ConnectorName": "c"}
    stacks = Stacks(client("cloudformation"), lambda part: "refusals-alarms", lambda line: None)
    stacks.apply(stacks.plan("alarms", values), values)
    alarms = client("cloudwatch").describe_alarms(AlarmNamePrefix="ringing-")["MetricAlarms"]
    found = {each["AlarmName"]: each["MetricName"] for each in alarms}
    assert len(found) == 9
    assert found["ringing-unread-geo"] == "IncomingRecords"
    assert found["ringing-consumer-lag"] == "SumOffsetLag"
    assert stacks.delete("alarms")


def test_brokers_come_in_another_order_each_time(client: Callable[[str], Any], tmp_path: Any) -> None:
    """And a deployment hands on one text all the same."""
    kafka = client("kafka")
    nodes = {"InstanceType": "kafka.m7g.large", "ClientSubnets": ["subnet-1", "subnet-2", "subnet-3"]}
    arn = kafka.create_cluster(
        ClusterName="shuffled", KafkaVersion="3.9.x.kraft", NumberOfBrokerNodes=3, BrokerNodeGroupInfo=nodes
    )["ClusterArn"]
    answers = {
        kafka.get_bootstrap_brokers(ClusterArn=arn)["BootstrapBrokerStringSaslIam"] for _ in range(100)
    }
    assert len(answers) > 1
    deployment = Deployment(
        Settings(name="shuffled"), client, {}, tmp_path, lambda line: None, lambda question: ""
    )
    brokers = [f"b-{number}.shuffled.ministack.local:9098" for number in (1, 2, 3)]
    assert {deployment._brokers(arn) for _ in range(20)} == {",".join(brokers)}
    kafka.delete_cluster(ClusterArn=arn)
