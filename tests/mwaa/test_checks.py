"""Looking before anything is created: each thing that is put wrong is named with what to do, and nothing is changed."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import boto3
import botocore.session
import cfnlint
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters

from mwaa import checks
from mwaa.checks import names, permissions
from mwaa.checks.report import Context, State
from mwaa.deployment import Deployment
from mwaa.settings import PARTS, Settings
from mwaa.stacks import template_of

ACCOUNT, USER = "123456789012", "arn:aws:iam::123456789012:user/who"
READS = re.compile(r"(Describe|Get|List|Head|Simulate)[A-Za-z0-9]+")


class Refused(Exception):
    """What AWS answers instead: an error code, and its message."""

    def __init__(self, code, message=""):
        super().__init__(code)
        self.code, self.message = code, message


def absent(code):
    def answer(**_):
        raise Refused(code)

    return answer


class Clients:
    """Clients of AWS' services whose calls the account of the running test answers: to make one takes a while."""

    def __init__(self):
        self.account = None
        self._session = boto3.Session("AKIAEXAMPLE", "secret", region_name="us-east-1")
        self._made = {}

    def of(self, service):
        if service not in self._made:
            made = self._made[service] = self._session.client(service)
            made.meta.events.register("provide-client-params", self._remember)
            made.meta.events.register("before-call", lambda **call: self.account.answer(**call))
        return self._made[service]

    def _remember(self, params, **_):
        self.account.arguments = params


CLIENTS = Clients()


class Account:
    """An AWS account in which everything is as a first deployment needs it; a test puts one thing wrong.

    Answers and arguments are held against the services' models, and each call is remembered.
    """

    def __init__(self):
        self.calls = []
        self.denied = {}
        self.lacking = {}  # name of an endpoint's service -> the zones that have it
        self.answers = {
            "GetCallerIdentity": {"Account": ACCOUNT, "Arn": USER},
            "DescribeStacks": absent("ValidationError"),
            "GetAccount": {"cloudwatchRoleArn": "arn:aws:iam::123456789012:role/logs"},
            "DescribeAvailabilityZones": self.zones("abcdef"),
            "DescribeInstanceTypeOfferings": self.offerings({"t3.small": "abcdef", "m7g.large": "abcdef"}),
            "DescribeVpcEndpointServices": self.services,
            "ListKafkaVersions": self.versions("3.8.x", "3.9.x.kraft", "4.1.x.kraft"),
            "DescribeDBEngineVersions": lambda EngineVersion, **_: {
                "DBEngineVersions": [{"EngineVersion": "8.4.7"}] if EngineVersion in {"8.4", "8.4.7"} else []
            },
            "DescribeOrderableDBInstanceOptions": {"OrderableDBInstanceOptions": [{"Engine": "mysql"}]},
            "DescribeAccountAttributes": self.databases(0),
            "ListEnvironments": {"Environments": []},
            "GetEnvironment": absent("ResourceNotFoundException"),
            "GetParameter": {"Parameter": {"Value": "ami-newest"}},
            "HeadBucket": absent("404"),
            "GetRole": self.role,
            "DescribeStreamSummary": absent("ResourceNotFoundException"),
            "DescribeSecret": absent("ResourceNotFoundException"),
            "GetSecretValue": absent("ResourceNotFoundException"),
            "DescribeLogGroups": {"logGroups": []},
            "ListClustersV2": {"ClusterInfoList": []},
            "ListConnectors": {"connectors": []},
            "GetServiceQuota": {"Quota": {"Value": 5.0}},
            "DescribeVpcs": {"Vpcs": [{"VpcId": "vpc-default"}]},
            "DescribeInternetGateways": {"InternetGateways": []},
            "DescribeAddresses": {"Addresses": []},
            "DescribeLoadBalancers": {"LoadBalancers": []},
            "DescribeLimits": self.limits(streams=0),
            "GetAccountSummary": {"SummaryMap": {"Roles": 3, "RolesQuota": 1000}},
            "SimulatePrincipalPolicy": self.simulate,
        }
        self.roles = {role.name for role in permissions.SERVICE_ROLES}
        CLIENTS.account = self

    def client(self, service):
        return CLIENTS.of(service)

    def answer(self, model, params, request_signer, **_):
        self.calls.append(f"{model.service_model.service_name}:{model.name}")
        answer = self.answers[model.name]
        try:
            found = answer(**self.arguments) if callable(answer) else answer
        except Refused as refused:
            error = {"Code": refused.code, "Message": refused.message or f"{refused.code}: does not exist"}
            return AWSResponse("", 400, {}, None), {"Error": error}
        validate_parameters(found, model.output_shape)
        return AWSResponse("", 200, {}, None), found

    def checked(self, **changes):
        return self.checked_with(replace(Settings(), **changes))

    def checked_with(self, settings, environment=None):
        """Return the results that are not ok, by what was looked at."""

        here = (
            {"DATABRICKS_HOST": "https://w", "DATABRICKS_TOKEN": "t"} if environment is None else environment
        )
        nobody = Deployment(
            settings, self.client, here, Path("/none"), lambda line: None, lambda question: ""
        )
        context = Context(nobody, self.client)
        self.results = list(checks.results(context, checks.AWS))
        self.lines = []
        self.good = checks.tell(context, self.results, self.lines.append)
        assert [call for call in self.calls if not READS.fullmatch(call.split(":")[1])] == []
        return {each.thing: each for each in self.results if each.state is not State.OK}

    def role(self, RoleName):
        if RoleName not in self.roles:
            raise Refused("NoSuchEntity")
        return {"Role": a_role(RoleName)}

    def simulate(self, ActionNames, ContextEntries, **_):
        assert {"aws:RequestedRegion": ["us-east-1"]}.items() <= {
            each["ContextKeyName"]: each["ContextKeyValues"] for each in ContextEntries
        }.items()
        return {
            "EvaluationResults": [
                {
                    "EvalActionName": each,
                    "EvalDecision": "implicitDeny" if each in self.denied else "allowed",
                    "MissingContextValues": self.denied.get(each, []),
                }
                for each in ActionNames
            ]
        }

    @staticmethod
    def offerings(kinds):
        return {
            "InstanceTypeOfferings": [
                {"InstanceType": kind, "Location": f"us-east-1{zone}"}
                for kind, zones in kinds.items()
                for zone in zones
            ]
        }

    def services(self, Filters):
        (wanted,) = Filters
        every = [f"us-east-1{zone}" for zone in "abcdef"]
        return {
            "ServiceDetails": [
                {"ServiceName": name, "AvailabilityZones": self.lacking.get(name, every)}
                for name in wanted["Values"]
                if self.lacking.get(name, every)
            ]
        }

    @staticmethod
    def zones(letters):
        return {"AvailabilityZones": [{"ZoneName": f"us-east-1{z}", "State": "available"} for z in letters]}

    @staticmethod
    def limits(streams):
        shards = {"ShardLimit": 500, "OpenShardCount": 0}
        return {**shards, "OnDemandStreamCount": streams, "OnDemandStreamCountLimit": 50}

    @staticmethod
    def databases(used):
        return {"AccountQuotas": [{"AccountQuotaName": "DBInstances", "Used": used, "Max": 40}]}

    @staticmethod
    def versions(*active):
        found = [{"Version": each, "Status": "ACTIVE"} for each in active]
        return {"KafkaVersions": [*found, {"Version": "2.2.1", "Status": "DEPRECATED"}]}


def a_role(name, path="/"):
    return {
        **{"Path": path, "RoleName": name, "RoleId": "AROAEXAMPLEEXAMPLEEX"},
        **{"Arn": f"arn:aws:iam::{ACCOUNT}:role{path}{name}", "CreateDate": datetime(2026, 1, 1, tzinfo=UTC)},
    }


@pytest.fixture
def account():
    return Account()


UNKNOWN_TO_MWAA = {"Airflow version"}  # which versions MWAA offers is in no answer of its API


def test_an_account_as_it_should_be(account):
    found = account.checked()
    assert found.keys() == UNKNOWN_TO_MWAA
    assert "see that 3.3.1 is there" in found["Airflow version"].remedy
    assert account.good
    assert account.lines[0] == "pinterest in us-east-1, account 123456789012: looked at, nothing created"
    assert (
        "  ok       zones                                    us-east-1a, us-east-1b, us-east-1c"
        in account.lines
    )
    assert re.fullmatch(r"0 missing, 1 could not be looked at, \d+ ok", account.lines[-1])
    assert len(account.lines) == len(account.results) + 2


QUOTA = "aws service-quotas request-service-quota-increase --service-code"
WRONG = {
    "no logging role": (
        {"GetAccount": {}},
        *("API Gateway's logging role", "the account has none in us-east-1", "aws apigateway update-account"),
    ),
    "two zones": (
        {"DescribeAvailabilityZones": Account.zones("ac")},
        *("zones", "us-east-1 has 2 zones, and brokers lie in 3", "choose another region"),
    ),
    "a zone without the brokers' machines": (
        {"DescribeInstanceTypeOfferings": Account.offerings({"t3.small": "abcdef", "m7g.large": "acdef"})},
        *("machines in the zones", "us-east-1b has no m7g.large", 'Zones = ["us-east-1a", "us-east-1c", "us-east-1d"]'),
    ),
    "no zones with the brokers' machines": (
        {"DescribeInstanceTypeOfferings": Account.offerings({"t3.small": "abcdef"})},
        *("machines in the zones", "us-east-1a has no m7g.large; us-east-1b has no", "BrokerType, ProxyInstanceType"),
    ),
    "a Kafka version that has gone": (
        {"ListKafkaVersions": Account.versions("4.1.x.kraft")},
        *("Kafka version", "3.9.x.kraft is not offered in us-east-1; 4.1.x.kraft are", "[parameters] KafkaVersion"),
    ),
    "a Kafka version that is about to go": (
        {"ListKafkaVersions": {"KafkaVersions": [{"Version": "3.9.x.kraft", "Status": "DEPRECATED"}]}},
        *("Kafka version", "3.9.x.kraft is not offered in us-east-1; none are", "[parameters] KafkaVersion"),
    ),
    "no MySQL 8.4": (
        {"DescribeDBEngineVersions": {"DBEngineVersions": []}},
        *("database version", "MySQL 8.4 is not offered; of 8.4, none", 'DatabaseVersion = "8.4"'),
    ),
    "no such class of database": (
        {"DescribeOrderableDBInstanceOptions": {"OrderableDBInstanceOptions": []}},
        *("database class", "db.t4g.micro is not offered for MySQL 8.4.7 in us-east-1", "DatabaseClass = "),
    ),
    "no image": (
        {"GetParameter": absent("ParameterNotFound")},
        *("image of the proxy", "there is no /aws/service/ami-amazon-linux-latest/al2023", "ProxyImage = "),
    ),
    "a bucket of one's own": (
        {"HeadBucket": lambda Bucket: {} if "data" in Bucket else absent("404")()},
        *("buckets", "pinterest-data-123456789012 exists already", "data_bucket, mwaa_bucket"),
    ),
    "a bucket of others": (
        {"HeadBucket": absent("403")},
        *("buckets", "pinterest-mwaa-123456789012 exists already and is another account's", "data_bucket, mwaa_bucket"),
    ),
    "a bucket in another region": (
        {"HeadBucket": absent("301")},
        *("buckets", "pinterest-data-123456789012 exists already, in another region", "data_bucket, mwaa_bucket"),
    ),
    "a stream": (
        {"DescribeStreamSummary": lambda StreamName: A_STREAM if "geo" in StreamName else NO_STREAM()},
        *("streams", "streaming-pinterest-geo exists already", "choose another prefix"),
    ),
    "a secret that waits to be deleted": (
        {"DescribeSecret": {"DeletedDate": datetime(2026, 1, 1, tzinfo=UTC)}},
        *("secrets", "pinterest/connections/pinterest_kafka waits to be deleted", "--force-delete-without-recovery"),
    ),
    "a log group": (
        {"DescribeLogGroups": {"logGroups": [{"logGroupName": f"/pinterest/{n}"} for n in ("kafka", "api-2")]}},
        *("log group of kafka", "/pinterest/kafka exists already", "aws logs delete-log-group"),
    ),
    "a cluster": (
        {"ListClustersV2": lambda **asked: {"ClusterInfoList": [A_CLUSTER] if "ClusterNameFilter" in asked else []}},
        *("Kafka cluster", "pinterest exists already", "choose another name"),
    ),
    "a connector": (
        {"ListConnectors": {"connectors": [{"connectorName": "pinterest-s3-sink"}]}},
        *("connector", "pinterest-s3-sink exists already", "remove what has it"),
    ),
    "an environment": (
        {"GetEnvironment": {"Environment": {"Name": "pinterest"}}},
        *("environment", "pinterest exists already", "choose another name"),
    ),
    "too many VPCs": (
        {"DescribeVpcs": {"Vpcs": [{}] * 5}},
        *("VPCs", "5 of 5 used, 1 more wanted", f"{QUOTA} vpc --quota-code L-F678F1CE --desired-value 6"),
    ),
    "too many addresses": (
        {"DescribeAddresses": {"Addresses": [{}] * 5}},
        *("elastic IP addresses", "5 of 5 used", f"{QUOTA} ec2 --quota-code L-0263D0A3 --desired-value 6"),
    ),
    "too many internet gateways": (
        {"DescribeInternetGateways": {"InternetGateways": [{}] * 5}},
        *("internet gateways", "5 of 5 used", "L-A4707A72 --desired-value 6"),
    ),
    "too many load balancers": (
        {"DescribeLoadBalancers": {"LoadBalancers": [{"Type": "network"}] * 5 + [{"Type": "application"}] * 9}},
        *("network load balancers", "5 of 5 used", "elasticloadbalancing --quota-code L-69A177A2"),
    ),
    "too few brokers": (
        {"GetServiceQuota": lambda ServiceCode, **_: {"Quota": {"Value": 2.0 if ServiceCode == "kafka" else 5.0}}},
        *("Kafka brokers", "0 of 2 used, 3 more wanted", "kafka --quota-code L-EDD31C36 --desired-value 3"),
    ),
    "too many environments": (
        {"ListEnvironments": {"Environments": [f"e{each}" for each in range(5)]}},
        *("MWAA environments", "5 of 5 used", "airflow --quota-code L-67D41C6B"),
    ),
    "too many streams": (
        {"DescribeLimits": Account.limits(streams=48)},
        *("on-demand streams", "48 of 50 used, 3 more wanted", 'StreamMode = "PROVISIONED"'),
    ),
    "too many databases": (
        {"DescribeAccountAttributes": Account.databases(40)},
        *("databases", "40 of 40 used, 1 more wanted", "Amazon RDS"),
    ),
    "too many roles": (
        {"GetAccountSummary": {"SummaryMap": {"Roles": 996, "RolesQuota": 1000}}},
        *("IAM roles", "996 of 1000 used, 5 more wanted", "Roles per account"),
    ),
}  # fmt: skip
NO_STREAM = absent("ResourceNotFoundException")
A_CLUSTER = {"ClusterName": "pinterest"}
A_STREAM = {
    "StreamDescriptionSummary": {
        **{"StreamName": "n", "StreamARN": "a", "StreamStatus": "ACTIVE", "RetentionPeriodHours": 24},
        **{
            "StreamCreationTimestamp": datetime(2026, 1, 1, tzinfo=UTC),
            "EnhancedMonitoring": [],
            "OpenShardCount": 1,
        },
    }
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_in_the_account_is_named_with_its_remedy(account, wrong):
    answers, thing, found, remedy = WRONG[wrong]
    assert answers.keys() <= account.answers.keys()
    account.answers |= answers
    results = account.checked()
    assert results.keys() - UNKNOWN_TO_MWAA == {thing}
    assert results[thing].state is State.MISSING
    assert found in results[thing].found
    assert remedy in results[thing].remedy
    assert not account.good
    assert f"  MISSING  {thing:<40} {results[thing].found} -> {results[thing].remedy}" in account.lines
    assert account.lines[-1].startswith("1 missing, ")


@pytest.mark.parametrize(
    ("parameters", "thing", "found", "remedy"),
    [
        (
            {"WayOut": "none", "WebServerAccess": "PUBLIC_ONLY"},
            *("settings", "would not reach the web server", "PUBLIC_AND_PRIVATE"),
        ),
        (
            {"ProxyMachines": "2", "ProxyMachinesAtMost": "2"},
            *("settings", "adds a machine before", "ProxyMachinesAtMost = 3"),
        ),
        (
            {"Zones": "us-east-1a,us-east-1b,us-east-1x"},
            *("zones", "us-east-1 has no zone us-east-1x", 'Zones = ["us-east-1a",'),
        ),
        (
            {"Zones": "us-east-1a,us-east-1b,us-east-1a"},
            *("zones", "Zones names us-east-1a, us-east-1b", "three different"),
        ),
        ({"KafkaVersion": "3.9.x"}, "Kafka version", "3.9.x is not offered", ".kraft"),
        (
            {"DatabaseVersion": "8.4.3"},
            "database version",
            "MySQL 8.4.3 is not offered; of 8.4, 8.4.7",
            '"8.4"',
        ),
        (
            {"WorkspaceRoleName": "gone"},
            "role of the workspace",
            "there is no role gone",
            "WorkspaceRoleName",
        ),
    ],
)
def test_what_is_wrong_in_the_settings_is_named_with_its_remedy(account, parameters, thing, found, remedy):
    results = account.checked(parameters=parameters, offline="WayOut" in parameters)
    assert results.keys() - UNKNOWN_TO_MWAA == {thing}
    assert found in results[thing].found and remedy in results[thing].remedy
    assert results[thing].state is State.MISSING


def test_requirements_without_a_way_out_come_as_wheels(account):
    results = account.checked(parameters={"WayOut": "none"})
    assert "package index" in results["settings"].found
    assert results["settings"].remedy == "offline = true, then: python -m mwaa package --offline"
    assert account.checked(parameters={"WayOut": "none"}, offline=True).keys() == UNKNOWN_TO_MWAA


@pytest.mark.parametrize(
    ("zones", "found", "remedy"),
    [
        (
            "acdef",
            "us-east-1b has no com.amazonaws.us-east-1.airflow.env",
            'Zones = ["us-east-1a", "us-east-1c", "us',
        ),
        ("", "us-east-1a has no com.amazonaws.us-east-1.airflow.env; us-east-1b has no", 'WayOut = "nat"'),
    ],
)
def test_endpoints_are_in_the_zones_that_have_them(account, zones, found, remedy):
    account.lacking = {"com.amazonaws.us-east-1.airflow.env": [f"us-east-1{zone}" for zone in zones]}
    result = account.checked(parameters={"WayOut": "none"}, offline=True)["endpoints in the zones"]
    assert found in result.found and remedy in result.remedy
    assert account.checked().keys() == UNKNOWN_TO_MWAA  # with a way out there are none


def test_small_brokers_are_spoken_of_but_do_not_stop_a_deployment(account):
    offered = Account.offerings({"t3.small": "abcdef"})
    account.answers["DescribeInstanceTypeOfferings"] = offered
    results = account.checked(parameters={"BrokerType": "kafka.t3.small"})
    assert results.keys() == {*UNKNOWN_TO_MWAA, "brokers"}
    assert "four new IAM connections a second" in results["brokers"].found
    assert account.good


def test_a_connection_that_nothing_gives_a_value_is_named(account):
    results = account.checked_with(Settings(), environment={})
    assert results["connection databricks_default"].remedy == "set DATABRICKS_HOST with DATABRICKS_TOKEN"


@pytest.mark.parametrize(("zones", "found"), [("ab", "3 subnets in us-east-1a, us-east-1b"), ("abc", None)])
def test_subnets_that_exist_lie_in_three_zones(account, zones, found):
    places = [f"us-east-1{zone}" for zone in (zones * 2)[:3]]
    account.answers["DescribeSubnets"] = {"Subnets": [{"AvailabilityZone": each} for each in places]}
    given = {"VpcId": "vpc-1", "PrivateSubnetIds": "subnet-1,subnet-2,subnet-3"}
    results = account.checked(parts=tuple(part for part in PARTS if part != "network"), given=given)
    assert (results["PrivateSubnetIds"].found if found else results.get("PrivateSubnetIds")) == found


def test_subnets_that_are_not_there_are_named(account):
    def subnets(**_):
        raise Refused("InvalidSubnetID.NotFound", "The subnet ID 'subnet-3' does not exist")

    account.answers["DescribeSubnets"] = subnets
    results = account.checked(parts=("kafka",), given={"PrivateSubnetIds": "subnet-1,subnet-2,subnet-3"})
    assert results["PrivateSubnetIds"].found == "The subnet ID 'subnet-3' does not exist"


def test_what_may_not_be_done_is_named_by_part(account):
    account.denied = {"kafka:CreateCluster": [], "iam:PassRole": [], "cloudformation:ExecuteChangeSet": []}
    results = account.checked(parts=("streams", "kafka", "environment"))
    things = {
        thing.removeprefix("permissions: "): each for thing, each in results.items() if "permissions" in thing
    }
    assert things.keys() == {"stacks", "kafka", "environment"}
    assert things["kafka"].found == f"{USER} may not kafka:CreateCluster"
    assert things["environment"].found == f"{USER} may not iam:PassRole"
    assert all(
        "docs/operations.md" in each.remedy and each.state is State.MISSING for each in things.values()
    )


def test_what_a_condition_decides_is_not_said_to_be_missing(account):
    account.denied = {"kafka:CreateCluster": ["aws:PrincipalTag/team"]}
    results = account.checked(parts=("kafka",))
    assert results["permissions: kafka"].state is State.UNSEEN
    assert account.good


@pytest.mark.parametrize("role", permissions.SERVICE_ROLES, ids=lambda role: role.name)
def test_a_service_s_own_role_is_there_or_may_be_made(account, role):
    account.roles -= {role.name}
    assert account.checked().keys() == UNKNOWN_TO_MWAA
    account.denied = {"iam:CreateServiceLinkedRole": []}
    results = account.checked()
    assert results.keys() - UNKNOWN_TO_MWAA == {f"role of {role.service}"}
    assert results[f"role of {role.service}"].remedy == (
        f"an administrator: aws iam create-service-linked-role --aws-service-name {role.service}"
    )


def test_a_role_that_deploys_is_simulated_with_its_path(account):
    account.answers["GetCallerIdentity"] = {
        **{"Account": ACCOUNT, "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSReservedSSO_Admin_0/me"},
    }
    account.roles |= {"AWSReservedSSO_Admin_0"}
    path, role = "/aws-reserved/sso.amazonaws.com/", account.role
    account.answers["GetRole"] = lambda RoleName: (
        {"Role": a_role(RoleName, path)} if RoleName.startswith("AWSReserved") else role(RoleName)
    )
    account.denied = {"kafka:CreateCluster": []}
    found = account.checked(parts=("kafka",))["permissions: kafka"].found
    assert found == f"arn:aws:iam::{ACCOUNT}:role{path}AWSReservedSSO_Admin_0 may not kafka:CreateCluster"


def test_the_root_user_may_do_everything(account):
    account.answers["GetCallerIdentity"] = {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:root"}
    assert account.checked().keys() == UNKNOWN_TO_MWAA
    assert "iam:SimulatePrincipalPolicy" not in account.calls


@pytest.mark.parametrize(
    "code", ["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "InternalFailure"]
)
def test_a_look_that_is_refused_is_no_more_than_that(account, code):
    """Whoever may look at nothing is told so, once a look, and may deploy."""
    for operation in account.answers.keys() - {"GetCallerIdentity", "DescribeStacks", "GetSecretValue"}:
        account.answers[operation] = absent(code)
    results = account.checked()
    assert {each.state for each in results.values()} == {State.UNSEEN}
    assert len(results) >= 25
    wanted = "GetAccount: InternalFailure" if code == "InternalFailure" else "GetAccount is not permitted"
    assert results["API Gateway's logging role"].text == f"could not look: {wanted}"
    assert account.good
    assert not [line for line in account.lines if "Traceback" in line or "\n" in line]


def test_a_service_that_is_not_in_the_region_is_no_more_than_unseen(account):
    def nowhere(**_):
        raise botocore.exceptions.EndpointConnectionError(endpoint_url="https://airflow.nowhere")

    account.answers["ListEnvironments"] = nowhere
    results = account.checked()
    assert results["MWAA environments"].state is State.UNSEEN
    assert "https://airflow.nowhere" in results["MWAA environments"].found


def test_what_is_deployed_already_is_not_looked_at_again(account):
    """Its names are its own, and its quotas are used by it."""
    account.answers["DescribeStacks"] = {
        "Stacks": [
            {
                "StackName": "n",
                "StackStatus": "UPDATE_COMPLETE",
                "CreationTime": datetime(2026, 1, 1, tzinfo=UTC),
            }
        ]
    }
    assert account.checked() == {}
    things = {each.thing for each in account.results}
    assert things == {"settings", "connections", "API Gateway's logging role", "permissions: stacks"}


def test_every_name_that_a_template_chooses_is_looked_at():
    """Of kinds whose names are taken until somebody removes what has them."""
    context = Context(
        Deployment(Settings(), Account().client, {}, Path("/none"), print, input), Account().client
    )
    context.deployment.account = ACCOUNT
    found = {name for kind in names.KINDS for name in names._names(context, kind)}
    assert not [name for name in found if "$" in name]
    assert {"pinterest-mwaa", "pinterest-databricks", "/pinterest/rest-proxy", "pinterest-s3-sink"} <= found
    known = {(kind.part, kind.type) for kind in names.KINDS}
    unique = {kind.type for kind in names.KINDS}
    for part in PARTS:
        types = {each["Type"] for each in template_of(part)["Resources"].values() if each["Type"] in unique}
        # source.yaml has one secret of its own, the connection that secrets.yaml makes for a source that exists
        assert {(part, each) for each in types} <= known | {("source", "AWS::SecretsManager::Secret")}


def test_the_rights_that_are_asked_for_are_those_that_cloudformation_uses():
    """The types' schemas name them; nothing is asked for that creates nothing, and no type is forgotten."""
    schemas = {}
    for path in Path(cfnlint.__file__).parent.glob("data/schemas/resources/*.json"):
        schema = json.loads(path.read_text())
        schemas[schema["typeName"]] = schema.get("handlers", {}).get("create", {}).get("permissions", [])
    ours = {  # calls that mwaa makes itself, or that a type without a schema of its own needs
        *(
            "s3:ListBucketVersions",
            "s3:PutObject",
            "s3:GetObject",
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
        ),
        *("kafka:GetBootstrapBrokers", "ssm:GetParameter", "secretsmanager:GetSecretValue"),
        *("secretsmanager:PutSecretValue", "iam:PassRole"),
    }
    for part in PARTS:
        types = {each["Type"] for each in template_of(part)["Resources"].values()}
        asked = {action for actions in permissions.NEEDS[part].values() for action in actions}
        used = {action for each in types for action in schemas[each]}
        patterns = {action[:-1] for action in used if action.endswith("*")}
        unknown = {
            action
            for action in asked - used - ours
            if not any(action.startswith(pattern) for pattern in patterns)
        }
        assert unknown == set(), part
        for each in types:
            assert asked & set(schemas[each]), each


def test_the_rights_are_in_the_document():
    text = (Path(checks.__file__).parents[2] / "docs" / "operations.md").read_text()
    asked = {
        action
        for needs in (*permissions.NEEDS.values(), permissions.STACKS)
        for each in needs.values()
        for action in each
    }
    assert [each for each in sorted({*asked, "iam:CreateServiceLinkedRole"}) if f"`{each}`" not in text] == []
    assert [role.name for role in permissions.SERVICE_ROLES if role.name not in text] == []


# -- against the laptop's AWS -------------------------------------------------------------------------------------


@pytest.fixture
def impatient(client):
    """Make a client that does not ask a service again that the stand-in does not have."""
    return lambda service: client(service, Config(retries={"total_max_attempts": 1}))


def looked_at(deployment, person, client, settings):
    context = Context(deployment(person, settings), client)
    return {each.thing: each for each in checks.results(context)}


@pytest.fixture
def all_parts(settings):
    return replace(settings, parts=PARTS)


def test_the_stand_in_is_looked_at_and_nothing_is_created(somebody, deployment, all_parts, client, impatient):
    before = len(client("cloudformation").list_stacks()["StackSummaries"])
    found = looked_at(deployment, somebody(), impatient, all_parts)
    assert {thing for thing, each in found.items() if each.state is State.MISSING} == set()
    assert len(client("cloudformation").list_stacks()["StackSummaries"]) == before
    assert all_parts.name not in str(client("s3").list_buckets()["Buckets"])


def bucket(client, name):
    client("s3").create_bucket(Bucket=f"{name}-data-000000000000")


def stream(client, name):
    client("kinesis").create_stream(StreamName=f"streaming-{name}-pin", ShardCount=1)


def role(client, name):
    client("iam").create_role(RoleName=f"{name}-mwaa", AssumeRolePolicyDocument="{}")


def role_of_databricks(client, name):
    client("iam").create_role(RoleName=f"{name}-databricks", AssumeRolePolicyDocument="{}")


def secret(client, name):
    client("secretsmanager").create_secret(Name=f"{name}/connections/aws_default", SecretString="{}")


def log_group(client, name):
    client("logs").create_log_group(logGroupName=f"/{name}/api")


@pytest.mark.parametrize(
    ("put_wrong", "thing", "remedy"),
    [
        (bucket, "buckets", "data_bucket"),
        (stream, "streams", "another prefix"),
        (role, "roles", "another name"),
        (role_of_databricks, "role of Databricks", "another name"),
        (secret, "secrets", "delete-secret"),
        (log_group, "log group of api", "delete-log-group"),
    ],
)
def test_what_is_taken_on_the_stand_in_is_named(
    somebody, deployment, all_parts, client, impatient, put_wrong, thing, remedy
):
    put_wrong(client, all_parts.name)
    found = looked_at(deployment, somebody(), impatient, all_parts)
    assert {each.thing for each in found.values() if each.state is State.MISSING} == {thing}
    assert remedy in found[thing].remedy


def test_a_logging_role_that_is_missing_stops_a_deployment(command, client, settings):
    """And --unchecked does not stop: AWS says then what it thinks of it."""
    role = {"op": "replace", "path": "/cloudwatchRoleArn"}
    text = f'name = "{settings.name}"\nparts = ["storage", "roles", "api"]\n'
    client("apigateway").update_account(patchOperations=[{**role, "value": ""}])
    try:
        checked = command(text, "check")
        assert "MISSING  API Gateway's logging role" in checked.communicate(timeout=120)[0]
        assert checked.returncode == 1
        deployed = command(text, "deploy", "--yes")
        output = deployed.communicate(timeout=120)[0]
        assert deployed.returncode == 1
        assert output.endswith("Nothing was created. See to what is MISSING, or deploy with --unchecked.\n")
        assert "Traceback" not in output
        with pytest.raises(ClientError, match="does not exist"):
            client("cloudformation").describe_stacks(StackName=settings.stack("storage"))
        unchecked = command(text, "deploy", "--yes", "--unchecked")
        assert "Deployed." in unchecked.communicate(timeout=300)[0]
    finally:
        client("apigateway").update_account(
            patchOperations=[{**role, "value": "arn:aws:iam::000000000000:role/logs"}]
        )
    done = command(text, "check")
    assert done.communicate(timeout=120)[0].splitlines()[-1].startswith("0 missing, ")
    assert done.returncode == 0
