"""What is put into the workspace, and how it is compared with what is there."""

import time

import pytest
from databricks.sdk import WorkspaceClient

from mwaa import workspace

KEYS = {"aws_access_key_id": "AKIASTREAM", "aws_secret_access_key": "stream-secret"}


@pytest.fixture
def client(environment, request):
    made = WorkspaceClient(host=environment["DATABRICKS_HOST"], token=environment["DATABRICKS_TOKEN"])
    made.name = request.node.name[:60]
    yield made
    made.secrets.delete_scope(made.name)


def test_a_secret_is_compared_although_nobody_may_read_it(client):
    assert workspace.scope_changes(client, client.name, KEYS) == sorted(KEYS)
    assert workspace.put_scope(client, client.name, KEYS) == sorted(KEYS)
    assert workspace.scope_changes(client, client.name, KEYS) == []
    assert workspace.put_scope(client, client.name, KEYS) == []
    newer = {**KEYS, "aws_secret_access_key": "another"}
    assert workspace.put_scope(client, client.name, newer) == ["aws_secret_access_key"]
    assert workspace.scope_changes(client, client.name, newer) == []
    assert workspace.scope_changes(client, client.name, KEYS) == ["aws_secret_access_key"]
    named = [each.key.partition(".")[0] for each in client.secrets.list_secrets(client.name)]
    assert sorted(named) == sorted([*KEYS, *KEYS])


def test_a_secret_that_somebody_else_has_put_differs(client):
    workspace.put_scope(client, client.name, KEYS)
    newest = max(each.last_updated_timestamp for each in client.secrets.list_secrets(client.name))
    while int(time.time() * 1000) <= newest:  # the workspace counts milliseconds
        pass
    client.secrets.put_secret(client.name, "aws_access_key_id", string_value="AKIAOTHER")
    assert workspace.scope_changes(client, client.name, KEYS) == ["aws_access_key_id"]
    client.secrets.delete_secret(client.name, "aws_secret_access_key")
    assert workspace.scope_changes(client, client.name, KEYS) == sorted(KEYS)
