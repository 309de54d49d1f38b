"""Deployments against the laptop's AWS and Databricks: from nothing, again, changed, killed, destroyed."""

import contextlib
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from local.stack.supervisor import await_that
from mwaa import stacks
from mwaa.deployment import Stop
from mwaa.errors import DeployError


def lines_of(person, sign):
    return [line.strip() for line in person.told if line.strip().startswith(sign)]


def everything(client, name):
    """All that a deployment may leave behind, by kind."""
    iam, tree = client("iam"), {}
    tree["stacks"] = [
        s["StackName"]
        for s in client("cloudformation").list_stacks()["StackSummaries"]
        if s["StackName"].startswith(f"{name}-") and s["StackStatus"] != "DELETE_COMPLETE"
    ]
    tree["buckets"] = [b["Name"] for b in client("s3").list_buckets()["Buckets"]]
    tree["streams"] = client("kinesis").list_streams()["StreamNames"]
    tree["roles"] = [r["RoleName"] for r in iam.list_roles()["Roles"]]
    tree["profiles"] = [p["InstanceProfileName"] for p in iam.list_instance_profiles()["InstanceProfiles"]]
    tree["secrets"] = [s["Name"] for s in client("secretsmanager").list_secrets()["SecretList"]]
    tree["apis"] = [a["name"] for a in client("apigateway").get_rest_apis()["items"]]
    tree["logs"] = [g["logGroupName"] for g in client("logs").describe_log_groups()["logGroups"]]
    tree["topics"] = [t["TopicArn"] for t in client("sns").list_topics()["Topics"]]
    tree["alarms"] = [a["AlarmName"] for a in client("cloudwatch").describe_alarms()["MetricAlarms"]]
    return {kind: sorted(n for n in names if name in n) for kind, names in tree.items()}


def test_from_nothing_again_one_dag_and_away(somebody, deployment, settings, client, built, tmp_path):
    person = somebody()
    assert deployment(person, settings).deploy()
    assert {kind for kind, names in everything(client, settings.name).items() if not names} == set()
    assert "  written          connection pinterest_api" in person.told

    again = somebody()
    assert not deployment(again, settings).deploy()
    assert again.told == ["Nothing has changed."]
    assert again.asked == []

    edited = shutil.copytree(built, tmp_path / "edited")
    dag = edited / "dags" / "pinterest_daily_batch.py"
    dag.write_text(dag.read_text() + "# edited\n")
    person = somebody()
    assert deployment(person, settings, edited).deploy()
    assert lines_of(person, "uploaded") == ["uploaded         dags/pinterest_daily_batch.py"]
    assert not [line for line in person.told if line.startswith("stack ")]

    dag.unlink()
    person = somebody()
    assert deployment(person, settings, edited).deploy()
    assert lines_of(person, "-") == ["- dags/pinterest_daily_batch.py"]
    assert lines_of(person, "removed") == ["removed          dags/pinterest_daily_batch.py"]

    person = somebody(answer=settings.name)
    deployment(person, settings, edited).destroy()
    assert f"  stream: streaming-{settings.name}-pin" in person.told
    assert [name for names in everything(client, settings.name).values() for name in names] == []
    with pytest.raises(Exception, match="exist"):
        list(deployment(person, settings).workspace.workspace.list(settings.notebook_dir))


def test_a_changed_template_shows_its_difference_first(
    somebody, deployment, settings, client, tmp_path, monkeypatch
):
    few = replace(settings, parts=("streams",), parameters={"StreamMode": "PROVISIONED"})
    deployment(somebody(), few).deploy()
    templates = shutil.copytree(stacks.TEMPLATES, tmp_path / "cloudformation")
    text = (templates / "streams.yaml").read_text()
    (templates / "streams.yaml").write_text(text.replace("Default: 24\n", "Default: 48\n", 1))
    monkeypatch.setattr(stacks, "TEMPLATES", templates)

    unsure = somebody(answer="n")
    with pytest.raises(Stop, match="Nothing was changed"):
        deployment(unsure, few).deploy()
    assert [line.split()[1] for line in lines_of(unsure, "~")] == ["GeoStream", "PinStream", "UserStream"]
    stream = f"streaming-{settings.prefix}-pin"
    summary = client("kinesis").describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    assert summary["RetentionPeriodHours"] == 24
    left = client("cloudformation").list_change_sets(StackName=few.stack("streams"))["Summaries"]
    assert not [each for each in left if each["ExecutionStatus"] == "AVAILABLE"]

    deployment(somebody(), few).deploy()
    summary = client("kinesis").describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    assert summary["RetentionPeriodHours"] == 48


def test_a_changed_api_is_a_new_deployment_of_it(somebody, deployment, settings, client, built, tmp_path):
    few = replace(settings, parts=("storage", "roles", "api"))
    deployment(somebody(), few).deploy()
    stage = {"restApiId": api_id(client, few), "stageName": "prod"}
    before = client("apigateway").get_stage(**stage)["deploymentId"]
    edited = shutil.copytree(built, tmp_path / "edited")
    text = (edited / "openapi.yaml").read_text()
    (edited / "openapi.yaml").write_text(text.replace("Puts one record,", "Puts a record,"))
    person = somebody()
    deployment(person, few, edited).deploy()
    assert [line for line in lines_of(person, "~") if line.startswith("~ Api ")]
    stage["restApiId"] = api_id(client, few)
    assert client("apigateway").get_stage(**stage)["deploymentId"] != before


def test_only_plugins_requirements_and_startup_rebuild_the_environment(
    somebody, deployment, settings, built, tmp_path
):
    """The environment takes them by their objects' versions: what has none new is no change to it."""
    few = replace(settings, parts=("storage",))
    deployment(somebody(), few).deploy()
    names = ("PluginsVersion", "RequirementsVersion", "StartupVersion")

    def versions(files=built):
        values = deployment(somebody(), few, files).values()
        return [values[name] for name in names]

    before = versions()
    assert all(before) and len(set(before)) == 3
    edited = shutil.copytree(built, tmp_path / "edited")
    dag = edited / "dags" / "pinterest_daily_batch.py"
    dag.write_text(dag.read_text() + "# edited\n")
    deployment(somebody(), few, edited).deploy()
    assert versions(edited) == before
    (edited / "requirements.txt").write_text("PyMySQL\n")
    assert versions(edited) == [before[0], "not-uploaded-yet", before[2]]
    deployment(somebody(), few, edited).deploy()
    after = versions(edited)
    assert after[1] not in {before[1], "not-uploaded-yet"}
    assert (after[0], after[2]) == (before[0], before[2])


def api_id(client, settings):
    outputs = client("cloudformation").describe_stacks(StackName=settings.stack("api"))["Stacks"][0][
        "Outputs"
    ]
    return next(each["OutputValue"] for each in outputs if each["OutputKey"] == "ApiId")


DIES = """
import os, signal, sys
import mwaa.__main__ as program
told = program.say
def say(text):
    told(text)
    if {after!r} in text:
        os.kill(os.getpid(), signal.SIGKILL)
program.say = say
sys.exit(program.main())
"""
"""The command, killed at once when it has said this: from outside, it may be over before the kill comes."""


@pytest.mark.parametrize("after", ["stack api: create", "notebook"])
def test_a_killed_deployment_goes_on(somebody, after, command, deployment, settings, client):
    settings = replace(settings, name=f"kill{after[:4].strip()}", prefix=f"kill{after[:4].strip()}")
    text = (
        f'name = "{settings.name}"\nprefix = "{settings.prefix}"\nnotebook_dir = "{settings.notebook_dir}"\n'
    )
    killed = ("-c", DIES.format(after=after))
    process = command(text + f"parts = {list(settings.parts)}\n", "deploy", "--yes", program=killed)
    assert after in process.communicate(timeout=400)[0].splitlines()[-1]
    assert process.returncode == -signal.SIGKILL
    assert deployment(somebody(), settings).deploy()
    assert not deployment(somebody(), settings).deploy()
    found = everything(client, settings.name)
    assert len(found["stacks"]) == len(settings.parts)
    assert len(found["buckets"]) == 2 and len(found["streams"]) == 3 and len(found["secrets"]) == 5
    deployment(somebody(answer=settings.name), settings).destroy()
    assert [name for names in everything(client, settings.name).values() for name in names] == []


def test_a_taken_bucket_is_named_and_the_failed_stack_made_anew(somebody, deployment, settings, client):
    client("s3").create_bucket(Bucket=f"{settings.name}-taken")
    few = replace(settings, parts=("storage",), data_bucket=f"{settings.name}-taken")
    with pytest.raises(
        DeployError,
        match=r"taken.*already exists.*choose another in mwaa\.toml.*what failed is removed and made anew\.$",
    ):
        deployment(somebody(), few).deploy()
    person = somebody()
    free = replace(few, data_bucket=f"{settings.name}-free")
    assert deployment(person, free).deploy()
    assert not deployment(somebody(), free).deploy()


def test_no_deletes_nothing(somebody, deployment, settings, client):
    few = replace(settings, parts=("streams",))
    deployment(somebody(), few).deploy()
    person = somebody(answer="yes")  # that is not the name
    with pytest.raises(Stop, match="Nothing was deleted"):
        deployment(person, few).destroy()
    assert everything(client, settings.name)["streams"]


def test_what_mwaa_leaves_behind_goes_too(somebody, deployment, settings, client):
    """Its log groups belong to no stack; those of an environment whose name only begins alike stay."""
    few = replace(settings, parts=("streams",))
    deployment(somebody(), few).deploy()
    ours, theirs = f"airflow-{settings.name}-Task", f"airflow-{settings.name}-two-Task"
    for group in (ours, theirs):
        client("logs").create_log_group(logGroupName=group)
    person = somebody(answer=settings.name)
    deployment(person, few).destroy()
    assert f"  log group: {ours}" in person.told
    assert f"  removed          log group {ours}" in person.told
    assert everything(client, settings.name)["logs"] == [theirs]


def test_an_error_while_tidying_up_does_not_hide_what_went_wrong_first(
    somebody, deployment, settings, monkeypatch
):
    def nobody(question):
        raise DeployError("There is nobody to ask.")

    made = deployment(somebody(), replace(settings, parts=("streams",)))
    monkeypatch.setattr(made, "_ask", nobody)
    monkeypatch.setattr(made, "drop", lambda overview: 1 / 0)
    with pytest.raises(DeployError, match="There is nobody to ask"):
        made.deploy()


def test_an_unanswered_question_leaves_no_change_set(somebody, deployment, settings, client):
    few = replace(settings, parts=("streams",))
    deployment(somebody(), few).deploy()

    class Nobody(somebody):
        def ask(self, question):
            raise KeyboardInterrupt

    longer = replace(few, parameters={"StreamRetentionHours": "48"})
    with pytest.raises(KeyboardInterrupt):
        deployment(Nobody(), longer).deploy()
    left = client("cloudformation").list_change_sets(StackName=few.stack("streams"))["Summaries"]
    assert not [each for each in left if each["ExecutionStatus"] == "AVAILABLE"]


def test_what_would_lose_data_wants_the_name(somebody, deployment, settings, client):
    few = replace(settings, parts=("streams",))
    deployment(somebody(), few).deploy()
    moved = replace(few, prefix=f"{settings.prefix}2")
    hasty = somebody(answer="yes")
    with pytest.raises(Stop, match="Nothing was changed"):
        deployment(hasty, moved).deploy()
    assert len([line for line in hasty.told if "REPLACED: what it holds is lost" in line]) == 3
    assert hasty.asked == [f"Data would be lost. Type the deployment's name to go on ({few.name}): "]
    assert deployment(somebody(answer=few.name), moved).deploy()
    found = everything(client, settings.name)["streams"]
    assert found == [f"streaming-{moved.prefix}-{table}" for table in ("geo", "pin", "user")]


def test_a_missing_value_names_the_part_that_gives_it(somebody, deployment, settings):
    with pytest.raises(DeployError, match="needs DataBucket, which the part storage puts out"):
        deployment(somebody(), replace(settings, parts=("roles",))).deploy()


def test_notebooks_are_compared_before_they_are_uploaded(somebody, deployment, settings, built, tmp_path):
    few = replace(settings, parts=("storage", "databricks"), secret_scope=f"{settings.name}-scope")
    keys = {
        "PINTEREST_STREAM_ACCESS_KEY_ID": "AKIASTREAM",
        "PINTEREST_STREAM_SECRET_ACCESS_KEY": "stream-secret",
    }
    first = deployment(somebody(), few)
    with pytest.raises(DeployError, match="PINTEREST_STREAM_ACCESS_KEY_ID"):
        first.deploy()
    first._environment = {**first._environment, **keys}
    first.deploy()
    again = deployment(somebody(), few)
    again._environment = first._environment
    assert not again.deploy()
    assert not [line for line in first._say.__self__.told if "stream-secret" in line]

    edited = shutil.copytree(built, tmp_path / "edited")
    (edited / "notebooks" / "clean_pin.py").write_text("# Databricks notebook source\nprint(1)\n")
    (edited / "notebooks" / "pinterest_lake" / "tables.py").unlink()
    person = somebody()
    changed = deployment(person, few, edited)
    changed._environment = first._environment
    assert changed.deploy()
    assert lines_of(person, "notebook  ") == [
        f"notebook         ~ {few.notebook_dir}/clean_pin",
        f"notebook         - {few.notebook_dir}/pinterest_lake/tables.py",
    ]
    deployment(somebody(answer=few.name), few).destroy()


class Arguments:
    """The arguments of a process and of all that it starts, read again and again while it runs."""

    def __init__(self, pid):
        self.seen = set()
        self._pid, self._done = pid, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _watch(self):
        while not self._done.wait(0.02):
            self._look()

    def _look(self):
        family = {str(self._pid)}
        for process in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
            with contextlib.suppress(OSError):  # it has just ended
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
                if process.name in family or parent in family:
                    family.add(process.name)
                    self.seen.add((process / "cmdline").read_text("utf-8", "replace"))


def test_an_argument_of_a_child_is_seen():
    waits = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()', 'a-' + 'word'])"
    process = subprocess.Popen([sys.executable, "-c", waits], stdin=subprocess.PIPE)
    with Arguments(process.pid) as arguments:
        await_that(lambda: any("a-word" in each for each in list(arguments.seen)), 120, "it is not seen")
        process.communicate(b"\n")
    assert process.returncode == 0


def test_the_secrets_are_in_their_places_and_nowhere_else(command, environment, settings, client, built):
    """Whatever is printed, is an argument, is put in a bucket, or stands in a stack, template or artefact."""
    scope = {
        "PINTEREST_STREAM_ACCESS_KEY_ID": "AKIASTREAMSTREAMSTRE",
        "PINTEREST_STREAM_SECRET_ACCESS_KEY": "a-stream-secret",
    }
    secrets = [environment["AWS_SECRET_ACCESS_KEY"], environment["DATABRICKS_TOKEN"]]
    secrets += ["a-source-password", "a-stream-secret"]
    text = f'name = "{settings.name}"\nprefix = "{settings.name}"\nnotebook_dir = "/Shared/{settings.name}"\n'
    text += f'secret_scope = "{settings.name}"\nparts = {list(settings.parts)}\n'
    output = ""
    for arguments in (("diff",), ("deploy", "--yes"), ("status",)):
        process = command(text, *arguments, **scope)
        with Arguments(process.pid) as seen:
            output += process.communicate()[0]
        assert any(f"\0{arguments[0]}\0" in each for each in seen.seen)
        output += "".join(seen.seen)
    assert "Deployed." in output
    cloudformation, s3 = client("cloudformation"), client("s3")
    for part in settings.parts:
        stack = settings.stack(part)
        output += str(cloudformation.describe_stacks(StackName=stack))
        output += str(cloudformation.describe_stack_events(StackName=stack))
        output += str(cloudformation.get_template(StackName=stack))
    for bucket in (f"{settings.name}-mwaa-000000000000", f"{settings.name}-data-000000000000"):
        for each in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
            output += s3.get_object(Bucket=bucket, Key=each["Key"])["Body"].read().decode("latin-1")
    for path in built.rglob("*"):
        if path.is_file():
            output += path.read_bytes().decode("latin-1")
            if path.suffix == ".zip":  # where a text is not found as it is
                with zipfile.ZipFile(path) as archive:
                    output += "".join(archive.read(name).decode("latin-1") for name in archive.namelist())
    assert [secret for secret in secrets if secret in output] == []
    stored = client("secretsmanager").get_secret_value(
        SecretId=f"{settings.name}/connections/pinterest_source"
    )
    assert "a-source-password" in stored["SecretString"]
    assert command(text, "destroy", "--confirm", settings.name, **scope).wait() == 0


def test_the_role_of_unity_catalog_assumes_itself(somebody, deployment, settings, client):
    """Unity Catalog refuses a role that does not; without Unity Catalog nobody needs it."""
    role = f"{settings.name}-databricks"
    few = replace(settings, parts=("storage", "databricks"))
    deployment(somebody(), few).deploy()
    iam = client("iam")
    assert iam.list_role_policies(RoleName=role)["PolicyNames"] == ["read-clean-answer"]
    unity = {
        "UnityCatalogPrincipal": "arn:aws:iam::414351767826:role/unity",
        "UnityCatalogExternalId": "an-external-id",
    }
    deployment(somebody(), replace(few, parameters=unity)).deploy()
    found = iam.get_role(RoleName=role)["Role"]
    trusted, itself = found["AssumeRolePolicyDocument"]["Statement"][1:]
    assert trusted["Principal"] == {"AWS": unity["UnityCatalogPrincipal"]}
    assert trusted["Condition"] == {"StringEquals": {"sts:ExternalId": "an-external-id"}}
    assert itself["Principal"] == {"AWS": "arn:aws:iam::000000000000:root"}
    assert itself["Condition"] == {"ArnEquals": {"aws:PrincipalArn": found["Arn"]}}
    (statement,) = iam.get_role_policy(RoleName=role, PolicyName="assume-itself")["PolicyDocument"][
        "Statement"
    ]
    assert statement == {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": found["Arn"]}
    deployment(somebody(answer=few.name), few).destroy()


def test_status_says_what_is_missing(command, settings):
    text = f'name = "{settings.name}"\nparts = ["streams"]\n'
    process = command(text, "status")
    output = process.communicate()[0]
    assert process.returncode == 1
    assert f"NOT  stack {settings.name}-streams" in output and "not deployed" in output
    assert len(output.splitlines()) < 40  # one screen
    assert "Traceback" not in output
