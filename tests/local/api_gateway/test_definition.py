"""What the gateway reads out of an OpenAPI file, and what it refuses to serve."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.api_gateway.definition import Api, AwsAction, HttpProxy, load
from local.part import StartError

OPENAPI = Path(__file__).parents[3] / "mwaa" / "cloudformation" / "openapi.yaml"
PROXY = "/topics/{proxy+}"
RECORDS = "/streams/{stream-name}/records"
ANY = "x-amazon-apigateway-any-method"
INTEGRATION = "x-amazon-apigateway-integration"
Document = dict[str, Any]


@pytest.fixture(scope="module")
def api() -> Api:
    return load(OPENAPI, "eu-west-2")


def test_the_api_is_the_promised_one(api: Api) -> None:
    assert {(method, resource.path) for resource in api.resources for method in resource.methods} == {
        ("ANY", PROXY),
        ("GET", "/streams"),
        ("GET", "/streams/{stream-name}"),
        ("POST", "/streams/{stream-name}"),
        ("DELETE", "/streams/{stream-name}"),
        ("PUT", "/streams/{stream-name}/record"),
        ("PUT", RECORDS),
    }


def test_every_stream_method_calls_its_action_of_kinesis(api: Api) -> None:
    actions = {
        (method, path): found[0].integration.action
        for method, path in [
            ("GET", "/streams"),
            ("GET", "/streams/s"),
            ("POST", "/streams/s"),
            ("DELETE", "/streams/s"),
            ("PUT", "/streams/s/record"),
            ("PUT", "/streams/s/records"),
        ]
        if (found := api.find(method, path)) and isinstance(found[0].integration, AwsAction)
    }
    assert [*actions.values()] == [
        "ListStreams", "DescribeStream", "CreateStream", "DeleteStream", "PutRecord", "PutRecords",
    ]  # fmt: skip


def test_cloudformation_fills_what_the_laptop_fills_too() -> None:
    uri = "arn:${AWS::Partition}:apigateway:${AWS::Region}:kinesis:action/PutRecords"
    integration = yaml.safe_load(OPENAPI.read_text())["paths"][RECORDS]["put"][INTEGRATION]
    assert integration["uri"] == {"Fn::Sub": uri}
    assert integration["credentials"] == {"Fn::Sub": "${KinesisRoleArn}"}


def test_exact_paths_go_before_parameters_and_those_before_greedy_ones(tmp_path: Path) -> None:
    document = yaml.safe_load(OPENAPI.read_text())
    item = document["paths"][PROXY]
    document["paths"] = {path: item for path in ("/{proxy+}", "/a/{b}", "/a/b", "/a/{b}/c")}
    path = tmp_path / "api.yaml"
    path.write_text(yaml.safe_dump(document))
    api = load(path, "us-east-1")

    def resource(path: str) -> tuple[str, dict[str, str]]:
        found = api.find("GET", path)
        assert found is not None
        return found[0].resource, found[1]

    assert resource("/a/b") == ("/a/b", {})
    assert resource("/a/x%20y") == ("/a/{b}", {"b": "x%20y"})
    assert resource("/a/x/c") == ("/a/{b}/c", {"b": "x"})
    assert resource("/a/x/d/e") == ("/{proxy+}", {"proxy": "a/x/d/e"})


def proxy(document: Document) -> Document:
    return document["paths"][PROXY][ANY][INTEGRATION]


def records(document: Document) -> Document:
    return document["paths"][RECORDS]["put"][INTEGRATION]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: proxy(d).update(type="mock"), rf"ANY {PROXY}: integration type 'mock'"),
        (lambda d: proxy(d).pop("type"), "integration type 'missing'"),
        (lambda d: d["paths"][PROXY][ANY].pop(INTEGRATION), f"has no {INTEGRATION}"),
        (lambda d: d["paths"][PROXY][ANY].pop("security"), "no method may be open"),
        (lambda d: d["paths"][PROXY][ANY].update(security=[]), "no method may be open"),
        (lambda d: proxy(d).update(uri="ftp://x"), "must begin with http"),
        (
            lambda d: proxy(d)["requestParameters"].update({"integration.request.body.x": "'1'"}),
            "is not a mapping",
        ),
        (lambda d: proxy(d).update(timeoutInMillis=30000), "timeoutInMillis must be 50 to 29000"),
        (
            lambda d: records(d).update(uri="arn:aws:apigateway:r:kinesis:action/Put"),
            "kinesis has no action Put",
        ),
        (lambda d: records(d).update(uri="arn:aws:apigateway:r:kinesis:path/x"), "must be arn:"),
        (lambda d: records(d).update(uri="arn:aws:apigateway:r:nonsense:action/Put"), "unknown service"),
        (lambda d: records(d).update(uri="arn:aws:apigateway:r:s3:action/PutObject"), "not called with JSON"),
        (lambda d: records(d).update(passthroughBehavior="sometimes"), "'sometimes' is unknown"),
        (
            lambda d: records(d)["requestTemplates"].update({"application/json": "#foreach($x in"}),
            "mapping template",
        ),
        (lambda d: records(d)["responses"].update({"(": {"statusCode": "200"}}), "no regular expression"),
        (
            lambda d: records(d)["responses"]["default"].update(responseParameters={}),
            "responseParameters is not",
        ),
        (lambda d: d["components"]["schemas"].pop("Records"), "leads nowhere"),
        (lambda d: d.pop("x-amazon-apigateway-request-validators"), "validator 'body'"),
        (lambda d: d.update(openapi="3.1.0"), "not an OpenAPI 3.0 document"),
    ],
)
def test_what_cannot_be_served_is_refused_by_path(
    change: Callable[[Document], object], message: str, tmp_path: Path
) -> None:
    document = copy.deepcopy(yaml.safe_load(OPENAPI.read_text()))
    change(document)
    path = tmp_path / "api.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(StartError) as caught:
        load(path, "us-east-1")
    assert message.replace("\\", "") in str(caught.value)


def test_a_missing_or_broken_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="No such file"):
        load(tmp_path / "none.yaml", "us-east-1")
    (tmp_path / "bad.yaml").write_text("{")
    with pytest.raises(StartError, match="not YAML"):
        load(tmp_path / "bad.yaml", "us-east-1")


def test_the_proxy_is_reached_through_stage_variables(api: Api) -> None:
    found = api.find("POST", "/topics/pinterest.pin")
    assert found is not None
    integration = found[0].integration
    assert isinstance(integration, HttpProxy)
    assert integration.uri == "http://${stageVariables.restProxy}/topics/{proxy}"
    assert integration.parameters["header", "Authorization"] == "stageVariables.restProxyAuthorization"
