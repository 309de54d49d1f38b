from __future__ import annotations

import pytest
from botocore.stub import Stubber

from pinterest_pipeline.exceptions import ConnectorNotFound
from pinterest_pipeline.hooks.msk_connect import MskConnectHook


def summary(name: str, state: str) -> dict[str, str]:
    return {"connectorName": name, "connectorState": state, "connectorArn": f"arn:aws:kafkaconnect:::{name}"}


def test_the_connector_of_exactly_that_name_counts(aws: str) -> None:
    hook = MskConnectHook()
    with Stubber(hook.get_conn()) as stub:
        for _ in range(2):
            stub.add_response(
                "list_connectors",
                {"connectors": [summary("sink-2", "FAILED")], "nextToken": "more"},
                {"connectorNamePrefix": "sink"},
            )
            stub.add_response(
                "list_connectors",
                {"connectors": [summary("sink", "RUNNING")]},
                {"connectorNamePrefix": "sink", "nextToken": "more"},
            )
        assert hook.get_connector_state("sink") == "RUNNING"
        assert hook.find_connector("sink")["connectorArn"].endswith(":sink")


def test_the_connectors_that_there_are_are_named(aws: str) -> None:
    hook = MskConnectHook()
    with Stubber(hook.get_conn()) as stub:
        stub.add_response("list_connectors", {"connectors": [summary("sink-2", "RUNNING")]})
        with pytest.raises(ConnectorNotFound, match=r"No connector is named 'sink'; there is sink-2\."):
            hook.get_connector_state("sink")
