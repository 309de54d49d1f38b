"""Looking at the workspace before anything is created: what is put wrong is named with its remedy, nothing is made."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient

from mwaa import checks
from mwaa.checks.report import Context, State
from mwaa.checks.workspace import CHECKS
from mwaa.settings import Settings

ROOT = Path(__file__).parents[2]
TOKEN = "dapi-token-of-these-tests"
ARN = "arn:aws:iam::000000000000:instance-profile/streams"
CLUSTER = {
    "spark_version": "18.x-scala2.13",
    "node_type_id": "m5d.large",
    "data_security_mode": "SINGLE_USER",
}
SERVERLESS = {"serverless": True}
GOOD = replace(
    Settings(),
    parts=("storage", "databricks"),
    catalog="main",
    compute=SERVERLESS,
    stream_compute={"new_cluster": {**CLUSTER, "aws_attributes": {"instance_profile_arn": ARN}}},
    storage="s3://lake/pinterest",
    service_credential="kinesis",
)
ACCESS = {
    "catalogs": {
        "main": ["USE_CATALOG", "CREATE_SCHEMA"],
        "seen": ["BROWSE"],
        "old": ["USE_CATALOG"],
    },
    "schemas": {"old.pinterest": ["USE_SCHEMA", "SELECT"], "old.full": ["ALL_PRIVILEGES"]},
    "volumes": {"main.lake.posts": ["ALL_PRIVILEGES"], "main.lake.read": ["READ_VOLUME"]},
    "external_locations": {
        "s3://lake": ["READ_FILES", "WRITE_FILES"],
        "s3://lake/closed": ["READ_FILES"],
    },
    "service_credentials": ["kinesis"],
    "instance_profiles": [ARN],
    "folder_permissions": {"/Users": "CAN_READ"},
}


@pytest.fixture(scope="module")
def start(part, tmp_path_factory):
    """Start a workspace that gives its login this access; return its address."""
    started = []

    def begin(**access):
        folder = tmp_path_factory.mktemp("workspace")
        config = {
            "host": "127.0.0.1",
            "port": 0,
            "token": TOKEN,
            "home": str(folder / "home"),
            "warehouse": str(folder / "warehouse"),
            "jars": [str(ROOT / ".jars" / "spark")],
            "s3_endpoint_url": "",
            "region": "us-east-1",
            "cluster_id": "local-warm",
            "driver_memory": "1k",  # no heap to start with: no notebook runs
            "access": {**ACCESS, **access},
        }
        file = folder / "config.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(config))
        started.append(part(str(ROOT / ".venv" / "databricks" / "bin" / "python"), "local.databricks", file))
        return started[-1].url

    yield begin
    for each in started:
        each.stop()


@pytest.fixture(scope="module")
def url(start):
    return start()


@pytest.fixture
def look(deployment, somebody, client, url, monkeypatch):
    """Look with these settings; return what is not ok, by what was looked at."""

    def at(settings=GOOD, host=url, token=TOKEN, **changes):
        monkeypatch.setenv("DATABRICKS_HOST", host)
        monkeypatch.setenv("DATABRICKS_TOKEN", token)
        context = Context(deployment(somebody(), replace(settings, **changes)), client)
        found = list(checks.results(context, CHECKS))
        at.lines = [f"{each.thing}: {each.text}" for each in found]
        return {each.thing: each for each in found if each.state is not State.OK}

    return at


def cluster(**changes):
    made = {**CLUSTER, **changes}
    return {"new_cluster": {key: value for key, value in made.items() if value is not None}}


def test_all_is_well_and_each_thing_has_its_line(look):
    assert look() == {}
    assert [line.partition(":")[0] for line in look.lines] == [
        "workspace",
        "runtime of stream_compute",
        "machines of stream_compute",
        "access mode of stream_compute",
        "cluster creation",
        "instance profile",
        "folder of the notebooks",
        "catalog",
        "external location",
        "service credential",
    ]


WRONG = {
    "a runtime out of support": (
        {"stream_compute": cluster(spark_version="18.0.x-scala2.13")},
        *("runtime of stream_compute", "18.0.x-scala2.13 is not offered", "18.x-scala2.13"),
    ),
    "no runtime": (
        {"compute": cluster(spark_version=None)},
        *("runtime of compute", "none is not offered", "18.x-scala2.13"),
    ),
    "machines of another cloud": (
        {"compute": cluster(node_type_id="Standard_DS3_v2")},
        *("machines of compute", "Standard_DS3_v2 is not offered", "node_type_id: Nearest: "),
    ),
    "no access mode": (
        {"compute": cluster(data_security_mode=None)},
        *(
            "access mode of compute",
            "no Unity Catalog",
            "compute: a cluster with data_security_mode SINGLE_USER",
        ),
    ),
    "streams in standard access mode": (
        {"stream_compute": cluster(data_security_mode="USER_ISOLATION")},
        *("access mode of stream_compute", "USER_ISOLATION does not run", "SINGLE_USER"),
    ),
    "streams on serverless compute": (
        {"stream_compute": SERVERLESS},
        *("access mode of stream_compute", "no continuous stream", "SINGLE_USER"),
    ),
    "a cluster that is gone": (
        {"compute": {"existing_cluster_id": "0101-gone"}},
        *("cluster of compute", "there is no 0101-gone", "one of local-warm"),
    ),
    "an instance profile nobody has registered": (
        {"compute": cluster(aws_attributes={"instance_profile_arn": f"{ARN}-2"})},
        *("instance profile", f"{ARN}-2 is not registered", f"databricks instance-profiles add {ARN}-2"),
    ),
    "a folder of another": (
        {"notebook_dir": "/Users/somebody/pinterest"},
        *(
            "folder of the notebooks",
            "local has CAN_READ on /Users, and /Users/somebody/pinterest",
            "share it",
        ),
    ),
    "no such catalog": (
        {"catalog": "mian"},
        *("catalog", "there is no catalog mian, or it is closed to local", "one that exists"),
    ),
    "a catalog without a grant": (
        {"catalog": "seen"},
        *("catalog", "has not USE CATALOG, CREATE SCHEMA on seen", "ON CATALOG seen TO `local`"),
    ),
    "a schema without a grant": (
        {"catalog": "old"},
        *(
            "schema",
            "has not CREATE TABLE, MODIFY on old.pinterest",
            "GRANT CREATE TABLE, MODIFY ON SCHEMA old.p",
        ),
    ),
    "a storage no location covers": (
        {"storage": "s3://lakeside"},
        *("external location", "none covers s3://lakeside", "The rights in the workspace"),
    ),
    "a location that is read only": (
        {"storage": "s3://lake/closed/x"},
        *("external location", "has not WRITE FILES on lake-closed", "ON EXTERNAL LOCATION lake-closed TO"),
    ),
    "no such volume": (
        {"storage": "/Volumes/main/lake/gone/pinterest"},
        *("volume", "there is no volume main.lake.gone", "CREATE VOLUME main.lake.gone; GRANT READ VOLUME"),
    ),
    "a volume that is read only": (
        {"storage": "dbfs:/Volumes/main/lake/read"},
        *(
            "volume",
            "has not WRITE VOLUME on main.lake.read",
            "GRANT WRITE VOLUME ON VOLUME main.lake.read TO",
        ),
    ),
    "a secret scope without values": (
        {"secret_scope": "aws", "service_credential": ""},
        *(
            "secret scope",
            "have no value",
            "set PINTEREST_STREAM_ACCESS_KEY_ID and PINTEREST_STREAM_SECRET_ACCESS",
        ),
    ),
    "no such service credential": (
        {"service_credential": "kinesys"},
        *("service credential", "there is no kinesys", "purpose SERVICE and grant ACCESS on it to local"),
    ),
}


@pytest.mark.parametrize(("changes", "thing", "found", "remedy"), WRONG.values(), ids=WRONG.keys())
def test_what_is_put_wrong_is_named_with_its_remedy(look, url, changes, thing, found, remedy):
    results = look(**changes)
    assert set(results) == {thing}
    assert found in results[thing].found and remedy in results[thing].remedy
    # what the deployment itself will make is no reason not to begin
    assert results[thing].state is (State.UNSEEN if "lakeside" in found else State.MISSING)
    assert len(look.lines) == len(set(look.lines))
    there = WorkspaceClient(host=url, token=TOKEN)
    assert [item.path for item in there.workspace.list("/Shared")] == []
    assert (list(there.secrets.list_scopes()), list(there.jobs.list())) == ([], [])


def test_a_policy_may_decide_what_a_cluster_leaves_open(look):
    left_open = {"spark_version": None, "node_type_id": None, "data_security_mode": None, "policy_id": "P"}
    assert look(compute=cluster(**left_open)) == {}


def test_a_volume_may_take_the_place_of_the_bucket(look):
    assert look(storage="/Volumes/main/lake/posts") == {}
    assert "volume: main.lake.posts: READ_VOLUME, WRITE_VOLUME" in look.lines


def test_an_existing_schema_wants_its_own_grants(look):
    assert look(catalog="old", schema="full") == {}


def test_the_profile_of_the_deployment_comes_later(look):
    result = look(compute={})["instance profile"]
    assert result.state is State.UNSEEN
    own = "arn:aws:iam::000000000000:instance-profile/pinterest-databricks"
    assert result.found == f"{own} is not registered yet"
    assert result.remedy == f"after deploying: databricks instance-profiles add {own}, and let local use it"


@pytest.mark.parametrize(
    ("host", "token", "found"),
    [
        ("http://127.0.0.1:9", TOKEN, "does not answer"),
        (None, "dapi-wrong", "The token is wrong or has expired"),
        ("", "", "No Databricks workspace"),
    ],
)
def test_a_workspace_that_lets_nobody_in_is_one_line(look, url, host, token, found):
    results = look(host=url if host is None else host, token=token)
    assert set(results) == {"workspace"}
    assert found in results["workspace"].found and "DATABRICKS_HOST" in results["workspace"].remedy
    assert len(look.lines) == 1


def test_a_login_that_may_create_no_cluster_is_told(look, start):
    host = start(entitlements=["workspace-access"])
    results = look(host=host)
    assert set(results) == {"cluster creation"}
    assert results["cluster creation"].state is State.MISSING
    assert "local has not the entitlement to create clusters" in results["cluster creation"].found
    assert "Unrestricted cluster creation" in results["cluster creation"].remedy
    assert look(host=host, compute=SERVERLESS, stream_compute=cluster(policy_id="P")) == {}


def test_without_notebooks_nobody_looks_at_a_workspace(look):
    assert look(parts=("storage",), host="http://127.0.0.1:9") == {}
    assert look.lines == []
