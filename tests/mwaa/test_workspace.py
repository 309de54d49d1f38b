"""What is put into the workspace, and how it is compared with what is there."""

import base64
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
    for scope in made.secrets.list_scopes():
        if scope.name == made.name:
            made.secrets.delete_scope(scope.name)


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


OURS = """# Databricks notebook source
# /// script
# [tool.databricks.environment]
# environment_version = "5"
# ///
print(1)
"""
THEIRS = OURS.replace("# ///\nprint", '# dependencies = [\n#   "-r /Workspace/x.txt",\n# ]\n# ///\nprint')


@pytest.mark.parametrize(
    ("there", "changed"),
    [
        (OURS, ()),
        (THEIRS, ()),
        (
            OURS.replace(
                "# [tool.databricks.environment]\n", '# [tool.databricks.environment]\n# base = "x"\n'
            ),
            (),
        ),
        (OURS.replace('"5"', '"4"'), ("notebook",)),
        (THEIRS.replace("print(1)", "print(2)"), ("notebook",)),
    ],
)
def test_what_the_workspace_writes_into_a_notebooks_header_is_no_change(client, tmp_path, there, changed):
    (tmp_path / "notebook.py").write_text(OURS)
    (tmp_path / "module.py").write_text("VALUE = 1\n")
    folder = "/Shared/header"
    workspace.deploy_notebooks(client, tmp_path, folder)
    content = base64.b64encode(there.encode()).decode()
    body = {"path": f"{folder}/notebook", "format": "SOURCE", "language": "PYTHON", "overwrite": True}
    client.api_client.do("POST", "/api/2.0/workspace/import", body={**body, "content": content})
    try:
        changes = workspace.notebook_changes(client, tmp_path, folder)
    finally:
        client.workspace.delete(folder, recursive=True)
    assert (tuple(changes.added), tuple(changes.changed), tuple(changes.removed)) == ((), changed, ())
