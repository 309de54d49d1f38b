"""A stack's folder, ports and credentials."""

import errno
import json
import socket
import stat
from pathlib import Path

import pytest

from local.stack import settings
from local.stack.errors import StackError


def test_a_new_stack_keeps_its_ports_and_credentials(tmp_path):
    made = settings.load_or_create(tmp_path / "home")
    assert settings.load_or_create(tmp_path / "home") == made
    assert made.ports == settings.DEFAULT_PORTS


def test_two_stacks_share_no_secret(tmp_path):
    first, second = (settings.load_or_create(tmp_path / name).credentials for name in "ab")
    assert not set(first.values()) & set(second.values())


def test_only_the_owner_can_read_the_credentials(tmp_path):
    stack = settings.load_or_create(tmp_path / "home")
    assert stat.S_IMODE(stack.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((stack.etc / "credentials.json").stat().st_mode) == 0o600


def test_credentials_are_not_in_the_repr(tmp_path):
    stack = settings.load_or_create(tmp_path / "home")
    assert not [secret for secret in stack.credentials.values() if secret in repr(stack)]


def test_an_offset_moves_every_port(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT_OFFSET", "1000")
    assert settings.load_or_create(tmp_path / "home").ports["airflow"] == 9080


def test_automatic_ports_are_free_and_differ(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT_OFFSET", "auto")
    ports = settings.load_or_create(tmp_path / "home").ports
    assert len(set(ports.values())) == len(settings.DEFAULT_PORTS)
    for port in ports.values():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("offset", "message"),
    [
        ("many", "PORT_OFFSET=many is neither a whole number nor 'auto'."),
        ("60000", "PORT_OFFSET=60000 moves a port out of 1024..65535."),
        ("-8000", "PORT_OFFSET=-8000 moves a port out of 1024..65535."),
    ],
)
def test_a_wrong_offset_is_refused_and_makes_no_stack(tmp_path, monkeypatch, offset, message):
    monkeypatch.setenv("PORT_OFFSET", offset)
    with pytest.raises(StackError, match=message.replace(".", r"\.")):
        settings.load_or_create(tmp_path / "home")
    assert not settings.exists(tmp_path / "home")


def test_no_stack_says_how_to_start_one(tmp_path):
    with pytest.raises(StackError, match=r"There is no stack in .* yet. Start one: make up"):
        settings.load(tmp_path)


def test_a_broken_file_says_what_to_do(tmp_path):
    stack = settings.load_or_create(tmp_path / "home")
    (stack.etc / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"cannot be read .* make reset"):
        settings.load(stack.home)


def test_a_stack_from_before_its_parts_had_passwords_of_their_own_gets_them_once(tmp_path):
    made = settings.load_or_create(tmp_path / "home")
    path = made.etc / "credentials.json"
    before = {name: value for name, value in made.credentials.items() if not name.startswith("kafka_connect")}
    path.write_text(json.dumps(before))
    loaded = settings.load(made.home)
    assert loaded.credentials.keys() == made.credentials.keys()
    assert before.items() <= loaded.credentials.items()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert settings.load(made.home) == loaded


def test_a_stack_of_another_version_says_what_to_do(tmp_path):
    stack = settings.load_or_create(tmp_path / "home")
    facts = json.loads((stack.etc / "stack.json").read_text())
    del facts["ports"]["kafka"]
    (stack.etc / "stack.json").write_text(json.dumps(facts))
    with pytest.raises(StackError, match="made by another version"):
        settings.load(stack.home)


def test_the_environment_has_every_promised_name(tmp_path):
    promised = [
        *(
            "AIRFLOW_URL",
            "API_GATEWAY_URL",
            "REST_PROXY_URL",
            "KAFKA_BOOTSTRAP",
            "CONNECT_URL",
            "AWS_ENDPOINT_URL",
        ),
        *("BUCKET", "PREFIX", "DATABRICKS_HOST", "LAKE_DIR"),
    ]
    public = settings.load_or_create(tmp_path / "home").public()
    assert [name for name in promised if name not in public] == []
    # A shell reads the lines back as they are.
    assert not [value for value in public.values() if set(value) & set(" \"'$`\\;&|<>()\n")]


def test_a_file_system_without_hard_links_is_refused_and_makes_no_stack(tmp_path, monkeypatch):
    def refuse(link, target):
        raise OSError(errno.EPERM, "Operation not permitted", str(target), None, str(link))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(StackError, match=r"makes none \(Operation not permitted\)\. Name a folder"):
        settings.load_or_create(tmp_path / "home")
    assert not settings.exists(tmp_path / "home")
    assert list((tmp_path / "home").iterdir()) == []
