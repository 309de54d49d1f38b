"""Bad input and bad luck: one message that says what and what to do, exit status 1, no traceback."""

import json

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from mwaa import __main__ as main
from mwaa import connections
from mwaa.errors import DeployError, SettingError, spoken
from mwaa.settings import Settings

STREAMS = 'name = "wrong"\nparts = ["streams"]\n'
WORKSPACE = 'name = "wrong"\nparts = ["storage", "databricks"]\n'


@pytest.mark.parametrize(
    ("settings", "arguments", "changes", "says"),
    [
        (
            'region = "us-east-9"\n',
            ["diff"],
            {},
            "there is no AWS region 'us-east-9'. Nearest: us-east-2, us-east-1,",
        ),
        (
            "[parameters]\nStremMode = 'x'\n",
            ["diff"],
            {},
            "no template has 'StremMode'. Nearest: StreamMode,",
        ),
        ("[given]\nVpcIds = 'x'\n", ["diff"], {}, "no template has 'VpcIds'. Nearest: VpcId,"),
        (STREAMS, ["deploy"], {}, "There is nobody to ask: deploy with --yes"),
        (STREAMS, ["diff"], {"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS does not know these credentials"),
        (STREAMS, ["diff"], {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "AWS does not answer"),
        (
            WORKSPACE,
            ["diff"],
            {"DATABRICKS_TOKEN": "old"},
            "The token is wrong or has expired: make a new one",
        ),
        (WORKSPACE, ["diff"], {"DATABRICKS_HOST": "http://127.0.0.1:9"}, "does not answer"),
        (WORKSPACE, ["diff"], {"DATABRICKS_HOST": "", "DATABRICKS_TOKEN": ""}, "No Databricks workspace"),
        (STREAMS, ["status"], {"AWS_PROFILE": "nobody"}, "(nobody) could not be found. Sign in"),
    ],
)
def test_a_person_is_told_what_is_wrong(command, tmp_path, settings, arguments, changes, says):
    home = {"HOME": str(tmp_path), "DATABRICKS_CONFIG_FILE": str(tmp_path / "none")}
    process = command(settings, *arguments, **home, **changes)
    output = process.communicate(timeout=400)[0]
    assert process.returncode == 1
    assert says in output
    assert "Traceback" not in output
    for secret in ("a-secret/with+signs", "dapi-token-of-these-tests", "a-source-password"):
        assert secret not in output


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "Under_Score"\n', "name is 'Under_Score'; wanted: 2 to 32 lower-case"),
        ('nmae = "x"\n', "there is no setting 'nmae'; there are name, region"),
        ('parts = ["strams"]\n', "'strams' is none of storage"),
        ("name = \n", "is not TOML"),
        ("name = " + "[" * 20_000, "mwaa.toml is nested too deeply."),
        ("offline = 1\n", "offline is 1; wanted: true or false"),
        ("[parameters]\nKafkaMode = {}\n", "KafkaMode is {}; wanted: text, a number, true, false or a list"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(tmp_path, text, says):
    path = tmp_path / "mwaa.toml"
    path.write_text(text)
    with pytest.raises(SettingError) as caught:
        Settings.read(path)
    assert says in str(caught.value)


def test_settings_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(SettingError, match=r"mwaa\.toml cannot be read: Is a directory\.$"):
        (tmp_path / "mwaa.toml").mkdir()
        Settings.read(tmp_path / "mwaa.toml")


def test_an_end_of_input_is_a_no(monkeypatch):
    import io
    import sys

    from mwaa.__main__ import _asker, parser

    terminal = io.StringIO("")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert _asker(parser().parse_args(["deploy"]))("Do this? [y/N] ") == ""


def test_another_server_is_no_workspace(command, environment, tmp_path):
    process = command(WORKSPACE, "diff", DATABRICKS_HOST=environment["AWS_ENDPOINT_URL"], HOME=str(tmp_path))
    output = process.communicate(timeout=400)[0]
    assert process.returncode == 1
    assert output.splitlines() == [
        "What answers at DATABRICKS_HOST is no Databricks workspace. Set the workspace's address, such as "
        "https://dbc-01234567-89ab.cloud.databricks.com"
    ]


def test_without_settings_the_first_step_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"Start with: cp mwaa/example\.toml"):
        Settings.read(tmp_path / "mwaa.toml")


def test_the_example_is_a_deployment():
    from mwaa.package import ROOT

    assert Settings.read(ROOT / "mwaa" / "example.toml") == Settings()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ExpiredToken", "have expired.*Sign in, then run this again"),
        ("AccessDenied", r"Not permitted: CreateStack\. AWS says: because\. .*docs/operations\.md"),
        ("BucketAlreadyExists", r"name is taken.*data_bucket, mwaa_bucket"),
        ("Throttling", r"AWS refused CreateStack \(Throttling\): because\."),
    ],
)
def test_what_aws_refuses_is_explained(code, says):
    with pytest.raises(DeployError, match=says), spoken():
        raise ClientError({"Error": {"Code": code, "Message": "because."}}, "CreateStack")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (NoCredentialsError(), "No AWS credentials.*aws sso login"),
        (EndpointConnectionError(endpoint_url="https://x"), "AWS does not answer.*region in mwaa.toml"),
    ],
)
def test_what_botocore_cannot_do_is_explained(error, says):
    with pytest.raises(DeployError, match=says), spoken():
        raise error


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("PINTEREST_SOURCE_URL", "postgresql://u:very-secret@h/d"),
        ("PINTEREST_SOURCE_URL", "mysql://u:very-secret@and-more@h/d"),
        ("PINTEREST_SOURCE_URL", "mysql://u:very-secret@h"),
        ("DATABRICKS_HOST", "https://token:very-secret/and-more@h"),
    ],
)
def test_a_url_that_is_none_is_not_repeated(name, url):
    with pytest.raises(SettingError, match=f"^{name} is not of the form") as caught:
        connections.wanted({"Region": "us-east-1", "ExternalSource": "true"}, {name: url})
    assert "very-secret" not in str(caught.value)


def test_airflow_reads_the_connections_as_they_are_written(client, aws_url, monkeypatch):
    """Through the backend and with the arguments that environment.yaml names."""
    from airflow.providers.amazon.aws.secrets.secrets_manager import SecretsManagerBackend
    from airflow.sdk import Connection

    values = {
        "Region": "us-east-1",
        "ExternalSource": "true",
        "ApiUrl": "https://abc.execute-api.us-east-1.amazonaws.com/prod",
        "KafkaBootstrap": "b-1.example:9098,b-2.example:9098",
    }
    environment = {
        "PINTEREST_SOURCE_URL": "mysql://reader:p%40ss@db.example/posts",
        "DATABRICKS_HOST": "https://dbc-1.cloud.databricks.com",
        "DATABRICKS_CLIENT_ID": "a-client",
        "DATABRICKS_CLIENT_SECRET": "a-client-secret",
    }
    secrets = connections.Secrets(client("secretsmanager"), "reads")
    for name, value in connections.wanted(values, environment).items():
        client("secretsmanager").create_secret(Name=f"reads/connections/{name}")
        secrets.put(name, value)
        assert not secrets.differs(name, value)
    text = (stacks_folder() / "environment.yaml").read_text()
    arguments = json.loads(
        " ".join(
            text.split("secrets.backend_kwargs: !Sub >-")[1].split("pinterest.bucket")[0].split()
        ).replace("${Name}", "reads")
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIADEPLOYDEPLOYDEPL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret/with+signs")
    backend = SecretsManagerBackend(**arguments, region_name="us-east-1", endpoint_url=aws_url)

    def read(name):
        return Connection.from_json(backend.get_conn_value(name), conn_id=name)

    source = read("pinterest_source")
    assert (source.conn_type, source.host, source.login, source.password, source.schema, source.port) == (
        *("mysql", "db.example", "reader", "p@ss", "posts"),
        3306,
    )
    assert read("pinterest_api").host == values["ApiUrl"]
    assert read("pinterest_api").extra_dejson["aws_conn_id"] == "aws_default"
    assert read("pinterest_kafka").extra_dejson["sasl.mechanism"] == "AWS_MSK_IAM"
    assert read("aws_default").extra_dejson == {"region_name": "us-east-1"}
    databricks = read("databricks_default")
    assert (databricks.host, databricks.login) == ("dbc-1.cloud.databricks.com", "a-client")
    assert databricks.password == "a-client-secret"
    assert databricks.extra_dejson == {"service_principal_oauth": True}
    assert backend.get_variable("anything") is None


def stacks_folder():
    from mwaa.stacks import TEMPLATES

    return TEMPLATES


@pytest.mark.parametrize("storage", ["s3://bucket/folder", "s3a://b-1", "/Volumes/a/b", "dbfs:/mnt/x", ""])
def test_where_the_storage_may_be(storage):
    assert Settings(storage=storage).storage == storage


@pytest.mark.parametrize(
    "storage", ["s3a://AKIAKEY:secret@bucket", "AKIAKEY:secret@bucket", "s3a://AKIAKEY:sec/ret@bucket"]
)
def test_a_login_in_the_storage_is_refused_and_not_repeated(storage):
    with pytest.raises(
        SettingError, match=r"^mwaa\.toml: storage is what may hold credentials; wanted:"
    ) as caught:
        Settings(storage=storage)
    assert "AKIAKEY" not in str(caught.value)


def test_what_aws_answers_commands_no_terminal(capsys, monkeypatch):
    main.say("NOT  MWAA environment  \x1b[2J\x9b31m\u202e\ud83d\n  next")
    assert capsys.readouterr().out == "NOT  MWAA environment  \\x1b[2J\\x9b31m\\u202e\\ud83d\n  next\n"
    monkeypatch.setattr("sys.argv", ["mwaa", "--file", "no\x1b[2J.toml", "diff"])
    assert main.main() == 1
    assert r"no\x1b[2J.toml" in capsys.readouterr().err
