"""The templates with each other, and with the files that they include; cfn-lint and checkov run in make lint."""

import json
import re

import pytest
import yaml

from mwaa.settings import PARTS, Settings
from mwaa.stacks import TEMPLATES, parameters_of, rendered, template_of

# What a deployment knows besides settings and outputs: artefacts, versions, addresses that are asked for.
KNOWN = (
    *("OpenApiLocation", "ConnectorLocation", "RestProxyKey", "S3SinkKey", "KafkaBootstrap"),
    *("PluginsVersion", "RequirementsVersion", "StartupVersion"),
)


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


def test_every_alarm_has_a_runbook():
    runbooks = set(
        re.findall(r"^### (\S+)$", (TEMPLATES.parents[1] / "docs" / "operations.md").read_text(), re.M)
    )
    alarms = [
        each["Properties"]
        for each in template_of("alarms")["Resources"].values()
        if each["Type"].endswith("::Alarm")
    ]
    assert alarms
    for alarm in alarms:
        name = re.search(r"docs/operations\.md, (\S+)$", alarm["AlarmDescription"])[1]
        assert name in runbooks
        assert alarm["AlarmName"].startswith("${Name}-" + name)
        assert alarm["AlarmActions"]


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
    assert {"bucket", "alarm_topic_arn", "compute", "stream_compute", "connector_name"} <= ours


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
