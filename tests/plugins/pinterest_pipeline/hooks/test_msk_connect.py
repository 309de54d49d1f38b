from __future__ import annotations

import pytest

from pinterest_pipeline.exceptions import ConnectorNotFound
from pinterest_pipeline.hooks.msk_connect import pick_connector


def summary(name: str, state: str) -> dict[str, str]:
    return {"connectorName": name, "connectorState": state, "connectorArn": f"arn:aws:kafkaconnect:::{name}"}


def test_the_connector_of_exactly_that_name_counts() -> None:
    wanted = summary("sink", "RUNNING")
    assert pick_connector("sink", [summary("sink-2", "FAILED"), wanted]) == wanted


def test_the_connectors_that_there_are_are_named() -> None:
    with pytest.raises(ConnectorNotFound, match=r"No connector is named 'sink'; there is sink-2\."):
        pick_connector("sink", [summary("sink-2", "RUNNING")])
