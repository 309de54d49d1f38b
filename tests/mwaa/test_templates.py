"""The templates with each other, and with the files that they include; cfn-lint and checkov run in make lint."""

import inspect
import json
import re
from unittest import mock

import botocore.session
import pytest
import yaml

from mwaa.settings import PARTS, Settings
from mwaa.stacks import TEMPLATES, parameters_of, rendered, template_of

# What a deployment knows besides settings and outputs: artefacts, versions, addresses that are asked for.
KNOWN = (
    *("OpenApiLocation", "ConnectorLocation", "RestProxyKey", "S3SinkKey", "KafkaBootstrap", "ProxyImage"),
    *("PluginsVersion", "RequirementsVersion", "StartupVersion"),
)


TABLES = ("pin", "geo", "user")


def test_every_template_is_a_part():
    assert {path.stem for path in TEMPLATES.glob("*.yaml")} - {"openapi"} == set(PARTS)


def test_each_parameter_has_come_by_the_time_it_is_needed():
    values = {**Settings().values("123456789012"), **dict.fromkeys(KNOWN, "known")}
    for part in PARTS:
        parameters_of(part, values)  # raises, and names what is missing
        outputs = template_of(part).get("Outputs", {})
        assert not outputs.keys() & values.keys(), part
        values |= dict.fromkeys(outputs, "an output")


def test_no_template_is_too_long_for_a_call():
    assert {
        part: size for part in PARTS if (size := (TEMPLATES / f"{part}.yaml").stat().st_size) > 51_200
    } == {}


def test_no_parameter_takes_a_secret():
    names = {name for part in PARTS for name in template_of(part).get("Parameters", {})}
    assert {name for name in names if re.search("password|token|secret", name, re.IGNORECASE)} == {
        "SecretScope"
    }


def alarms_of(part):
    resources = template_of(part)["Resources"].values()
    return {
        each["Properties"]["AlarmName"].removeprefix("${Name}-"): each["Properties"]
        for each in resources
        if each["Type"] == "AWS::CloudWatch::Alarm"
    }


def test_every_alarm_has_a_runbook():
    runbooks = set(
        re.findall(r"^### (\S+)$", (TEMPLATES.parents[1] / "docs" / "operations.md").read_text(), re.M)
    )
    for part in ("alarms", "environment"):
        assert alarms_of(part)
        for each, alarm in alarms_of(part).items():
            name = re.search(r"docs/operations\.md, (\S+)$", alarm["AlarmDescription"])[1]
            assert name in runbooks
            assert each.startswith(name)
            assert alarm["AlarmActions"]


def watched(alarm):
    """Metric, dimensions, statistic, seconds it is looked back over, and what the alarm makes of silence."""
    dimensions = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
    seconds = alarm["Period"] * alarm["EvaluationPeriods"]
    condition = (alarm["ComparisonOperator"], alarm["Threshold"], alarm["TreatMissingData"])
    return (alarm["Namespace"], alarm["MetricName"], dimensions, alarm["Statistic"], seconds, condition)


def test_runs_that_do_not_happen_are_told_of():
    """MWAA's metrics: https://docs.aws.amazon.com/mwaa/latest/userguide/access-metrics-cw.html"""
    found = {name: watched(alarm) for name, alarm in alarms_of("environment").items()}
    nothing_came = ("LessThanThreshold", 1, "breaching")
    assert found == {
        "batch-overdue": (
            *("AmazonMWAA", "DAGDurationSuccess"),
            {"Environment": "Environment", "DAG": "pinterest_daily_batch"},
            *("SampleCount", 26 * 3600, nothing_came),
        ),
        "scheduler-heartbeat": (
            *("AmazonMWAA", "SchedulerHeartbeat", {"Environment": "Environment", "Function": "Scheduler"}),
            *("Sum", 1800, nothing_came),
        ),
        "triggerer-heartbeat": (
            *("AmazonMWAA", "TriggerHeartbeat", {"Environment": "Environment", "Function": "Triggerer"}),
            *("Sum", 1800, nothing_came),
        ),
        "callback-failed": (
            *("AmazonMWAA", "DagCallbackExceptions", {"Environment": "Environment", "DAG": "All"}),
            *("Sum", 300, ("GreaterThanThreshold", 0, "notBreaching")),
        ),
        "import-errors": (
            *("AmazonMWAA", "ImportErrors", {"Environment": "Environment", "Function": "DAG Processing"}),
            *("Minimum", 900, ("GreaterThanThreshold", 0, "notBreaching")),
        ),
    }


def queries(alarm):
    """Expression -> its metrics by their ids: name and the last dimension's value."""
    (expression,) = [each["Expression"] for each in alarm["Metrics"] if each.get("ReturnData", True)]
    stats = {each["Id"]: each["MetricStat"] for each in alarm["Metrics"] if "MetricStat" in each}
    return expression, {
        name: (stat["Metric"]["MetricName"], stat["Metric"]["Dimensions"][-1]["Value"], stat["Period"])
        for name, stat in stats.items()
    }


def test_lag_and_unread_records_ring_for_each_table():
    """The iterator's age is measured by whoever reads: it cannot ring where nobody does."""
    alarms = alarms_of("alarms")
    assert queries(alarms["consumer-lag"]) == (
        "MAX(METRICS())",
        {table: ("SumOffsetLag", f"${{Prefix}}.{table}", 300) for table in TABLES},
    )
    for table in TABLES:
        stream = f"streaming-${{Prefix}}-{table}"
        assert queries(alarms[f"unread-{table}"]) == (
            "IF(came > 0 AND FILL(reads, 0) == 0, 1, 0)",
            {
                "came": ("IncomingRecords", stream, 43_200),
                "reads": ("GetRecords.Success", stream, 43_200),
            },
        )
        assert alarms[f"iterator-age-{table}"]["Dimensions"][0]["Value"] == stream


def test_a_triggerer_is_given_time_before_its_waits_move():
    options = template_of("environment")["Resources"]["Environment"]["Properties"][
        "AirflowConfigurationOptions"
    ]
    assert options["triggerer.triggerer_health_check_threshold"] == "300"
    # and Airflow has that option
    from airflow.configuration import conf

    assert conf.has_option("triggerer", "triggerer_health_check_threshold")


def test_maintenance_by_aws_does_not_meet_maintenance_of_the_tables():
    """Which begins at midnight of a Sunday (UTC), after the answers."""
    day = template_of("environment")["Parameters"]["MaintenanceStart"]["Default"].split(":")[0]
    assert day not in {"SUN", "MON"}


def test_a_deployment_of_the_api_is_named_after_its_content():
    parameters = {"OpenApiLocation": "s3://b/one", "KinesisRoleArn": "arn:one"}
    names = {re.search(r"ApiDeployment\w+", rendered("api", parameters | change))[0] for change in (
        {}, {"OpenApiLocation": "s3://b/two"}, {"KinesisRoleArn": "arn:two"})}  # fmt: skip
    assert len(names) == 3
    assert "Location: s3://b/one" in rendered("api", parameters)


@pytest.mark.parametrize("name", ["restProxy", "vpcLinkId", "restProxyAuthorization"])
def test_the_stage_has_each_variable_of_the_api(name):
    openapi = (TEMPLATES / "openapi.yaml").read_text()
    assert re.search(rf"stageVariables\.{name}\b", openapi)
    stage = template_of("api")["Resources"]["Stage"]["Properties"]
    assert name in stage["Variables"]
    # Characters that API Gateway takes in the value of a stage variable.
    assert re.fullmatch(r"[A-Za-z0-9-._~:/?#&=,]*", stage["Variables"][name])


def test_the_connector_is_the_laptops_with_cloudformations_placeholders(built):
    ours = json.loads((TEMPLATES.parents[1] / "msk" / "connector.json").read_text())
    theirs = json.loads((built / "connector.json").read_text())
    assert theirs.keys() == ours.keys() - {"store.url"}
    assert theirs["s3.bucket.name"] == {"Fn::Sub": "${DataBucket}"}
    assert theirs["topics.regex"] == {"Fn::Sub": "\\Q${Prefix}\\E[.](pin|geo|user)"}
    assert theirs["s3.region"] == {"Fn::Sub": "${AWS::Region}"}
    assert not re.search(r"\$\{[a-z]", json.dumps(theirs))


def test_what_api_gateway_gets_has_no_number_as_a_bound(built):
    """CloudFormation makes texts of numbers in the body, and nobody says what API Gateway makes of those."""
    ours = yaml.safe_load((TEMPLATES / "openapi.yaml").read_text())
    theirs = yaml.safe_load((built / "openapi.yaml").read_text())
    bounds = {}

    def without(node, place=()):
        if isinstance(node, list):
            return [without(each, place) for each in node]
        if not isinstance(node, dict):
            return node
        names = {"minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
        bounds.update({(*place, name): value for name, value in node.items() if name in names})
        return {name: without(each, (*place, name)) for name, each in node.items() if name not in names}

    assert theirs == without(ours)
    assert bounds[("components", "schemas", "Records", "properties", "records", "maxItems")] == 500


def test_the_zones_are_the_regions_first_unless_named():
    text = (TEMPLATES / "network.yaml").read_text()
    chosen = r"!Select \[(\d), !If \[HasZones, !Split \[',', !Ref Zones\], !GetAZs ''\]\]"
    zones = re.findall(f"AvailabilityZone: {chosen}", text.replace('"', "'"))
    assert zones == ["0", "1", "2", "0"]
    assert text.count("AvailabilityZone:") == 4
    assert template_of("network")["Parameters"]["Zones"] == {
        "Description": mock.ANY,
        "Type": "String",
        "Default": "",
        "AllowedPattern": "|[a-z0-9-]+(,[a-z0-9-]+){2}",
    }


def test_a_network_without_a_way_out_has_the_endpoints_that_are_needed_and_no_others():
    names = {
        re.sub(r".*[}][.]", "", each["Properties"]["ServiceName"])
        for each in template_of("network")["Resources"].values()
        if each["Type"] == "AWS::EC2::VPCEndpoint"
    }
    assert names == {
        # MWAA's list, https://docs.aws.amazon.com/mwaa/latest/userguide/vpc-vpe-create-access.html
        *("s3", "monitoring", "logs", "sqs", "kms"),
        *("airflow.api", "airflow.env"),
        # what the DAGs, the proxy's machines and the sink call besides
        *("secretsmanager", "kinesis-streams", "kafkaconnect", "execute-api", "sns", "cloudformation"),
    }


def test_workers_reach_the_web_server_by_default_whatever_the_way_out():
    access = template_of("environment")["Parameters"]["WebServerAccess"]
    assert access["Default"] == "PUBLIC_AND_PRIVATE"
    model = botocore.session.get_session().get_service_model("mwaa")
    assert set(access["AllowedValues"]) == set(model.shape_for("WebserverAccessMode").enum)


def test_the_brokers_are_such_as_take_connections_and_lead_to_the_next_version():
    parameters = template_of("kafka")["Parameters"]
    assert parameters["BrokerType"]["Default"] == "kafka.m7g.large"
    assert parameters["KafkaVersion"]["Default"] == "3.9.x.kraft"


def test_the_databases_version_is_one_that_is_not_retired_by_its_minor_number():
    assert template_of("source")["Parameters"]["DatabaseVersion"]["Default"] == "8.4"
    assert template_of("source")["Resources"]["Settings"]["Properties"]["Family"] == "mysql8.4"


def test_the_load_balancer_uses_machines_of_every_zone():
    properties = template_of("proxy")["Resources"]["LoadBalancer"]["Properties"]
    assert {"Key": "load_balancing.cross_zone.enabled", "Value": "true"} in properties[
        "LoadBalancerAttributes"
    ]


def test_a_machine_of_the_proxy_is_ended_only_when_its_successor_answers():
    machines = template_of("proxy")["Resources"]["Machines"]
    update = machines["UpdatePolicy"]["AutoScalingRollingUpdate"]
    assert update["MinInstancesInService"] == machines["Properties"]["MinSize"] == "ProxyMachines"
    assert update["WaitOnResourceSignals"] is True
    assert "AlarmNotification" in update["SuspendProcesses"]
    script = (TEMPLATES / "proxy.yaml").read_text().split("Fn::Base64: !Sub |")[1].split("\n\n")[0]
    lines = [line.strip() for line in script.splitlines()]
    (asked,) = [line for line in lines if line.startswith("curl ")]
    assert lines.index("systemctl enable --now rest-proxy") < lines.index(asked)
    assert {"--retry-connrefused", "--retry-max-time 60"} <= set(re.findall(r"--\S+(?: \d+)?", asked))
    assert asked.endswith(" http://localhost:8082/")
    assert {"set -euo pipefail", "trap signal EXIT"} <= set(lines[: lines.index(asked)])


def test_an_update_takes_no_newer_image_by_itself():
    """A parameter whose value is the address of the newest one is looked up at every update."""
    for part in PARTS:
        for name, declared in template_of(part).get("Parameters", {}).items():
            assert not declared["Type"].startswith("AWS::SSM::Parameter"), (part, name)
    assert template_of("proxy")["Outputs"]["ProxyImageId"]["Value"] == "ProxyImage"


def test_the_secrets_backend_takes_each_of_its_arguments():
    from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend

    options = template_of("environment")["Resources"]["Environment"]["Properties"][
        "AirflowConfigurationOptions"
    ]
    given = json.loads(options["secrets.backend_kwargs"])
    known = inspect.signature(SecretsManagerBackend.__init__).parameters
    assert [name for name in given if name not in known] == []  # it ignores what it does not know


def test_the_smallest_environment_has_one_of_each():
    """mw1.micro takes one scheduler and one worker, and nothing else."""
    properties = template_of("environment")["Resources"]["Environment"]["Properties"]
    text = (TEMPLATES / "environment.yaml").read_text()
    assert "  OneContainer: !Equals [!Ref EnvironmentClass, mw1.micro]\n" in text
    for name in ("MinWorkers", "MaxWorkers", "Schedulers"):
        assert name in properties
        assert re.search(rf"^      {name}: !If \[OneContainer, 1, ", text, re.M), name


def test_api_gateway_may_assume_its_role_as_it_asks():
    """It sends no aws:SourceAccount for an integration's role, so that a condition on it would refuse every call."""
    (statement,) = template_of("roles")["Resources"]["KinesisApiRole"]["Properties"][
        "AssumeRolePolicyDocument"
    ]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": "apigateway.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }


def test_the_environment_passes_settings_that_the_dags_know():
    from pinterest_pipeline.config import Settings as DagSettings

    options = template_of("environment")["Resources"]["Environment"]["Properties"][
        "AirflowConfigurationOptions"
    ]
    ours = {name.removeprefix("pinterest.") for name in options if name.startswith("pinterest.")}
    assert ours <= DagSettings.__dataclass_fields__.keys()
    assert {
        "bucket",
        "alarm_topic_arn",
        "compute",
        "stream_compute",
        "connector_name",
        "service_credential",
    } <= ours


def test_the_proxy_s_configuration_is_one_that_the_proxy_takes(tmp_path):
    from msk.rest_proxy import config

    machine = yaml.safe_load(
        re.sub(r"!\w+ ", "", (TEMPLATES / "proxy.yaml").read_text()).replace(
            "Fn::Base64: |", "UserDataText: |"
        )
    )
    text = machine["Resources"]["Machine"]["Properties"]["LaunchTemplateData"]["UserData"]["UserDataText"]
    written = text.split("config.json <<'END'\n")[1].split("END")[0]
    path = tmp_path / "config.json"
    path.touch(mode=0o600)
    for name, value in {"KafkaBootstrap": "b-1:9098", "AWS::Region": "us-east-1", "Prefix": "posts"}.items():
        written = written.replace(f"${{{name}}}", value)
    path.write_text(written)
    settings = config.load(path)
    assert settings.topics == ("posts.pin", "posts.geo", "posts.user")
    assert (settings.sasl_mechanism, settings.security_protocol, settings.port) == (
        "AWS_MSK_IAM",
        "SASL_SSL",
        8082,
    )
