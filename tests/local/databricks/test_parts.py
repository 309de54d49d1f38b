"""The parts of the workspace that need no driver: widgets, mounts, output, the tree, secrets, imports."""

import io
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from local.databricks import page
from local.databricks.app import _html
from local.databricks.errors import ApiError
from local.databricks.execution import Outcome, as_json, describe
from local.databricks.modules import Modules
from local.databricks.mounts import MountError, MountTable
from local.databricks.output import Redactor, Router, RunLog
from local.databricks.secret_scopes import SecretScopes
from local.databricks.store import Store
from local.databricks.utilities import InputWidgetNotDefined, Widgets
from local.databricks.workspace import Workspace, normalise


def test_what_a_run_was_given_wins_over_the_defaults_of_widgets() -> None:
    widgets = Widgets({"day": "2026-01-01", "extra": "kept"})
    widgets.text("day", "today")
    widgets.dropdown("mode", "fast", ["fast", "slow"])
    widgets.combobox("free", "anything", ["a"])
    widgets.multiselect("many", "a", ["a", "b"])
    assert widgets.get("day") == "2026-01-01"
    assert widgets.get("extra") == "kept"
    expected = {"day": "2026-01-01", "mode": "fast", "free": "anything", "many": "a", "extra": "kept"}
    assert widgets.getAll() == expected


def test_a_widget_that_nobody_set_is_an_error() -> None:
    widgets = Widgets({"given": "1"})
    widgets.text("declared", "2")
    widgets.remove("declared")
    with pytest.raises(InputWidgetNotDefined, match="No input widget named declared is defined"):
        widgets.get("declared")
    widgets.removeAll()
    with pytest.raises(InputWidgetNotDefined):
        widgets.get("given")
    with pytest.raises(ValueError, match="not one of"):
        widgets.dropdown("mode", "medium", ["fast", "slow"])


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("s3a://bucket", "s3a://bucket/"),
        ("s3://bucket/topics/", "s3a://bucket/topics/"),
        ("s3n://KEY:SE%2FCRET@bucket", "s3a://bucket/"),
    ],
)
def test_mounts_are_kept_in_a_file(tmp_path: Path, source: str, url: str) -> None:
    table = MountTable(tmp_path / "mounts.json")
    assert table.add("/mnt/x/", source) == ("/mnt/x", url)
    assert MountTable(tmp_path / "mounts.json").read() == {"/mnt/x": url}
    assert "CRET" not in (tmp_path / "mounts.json").read_text()
    assert table.remove("dbfs:/mnt/x") == "/mnt/x"
    assert table.read() == {}


@pytest.mark.parametrize(
    ("point", "source", "message"),
    [
        ("/mnt/x", "gs://bucket", "Only S3"),
        ("/mnt/x", "s3a://KEY:SECRET@", "Only S3"),
        ("/", "s3a://bucket", "below /"),
        ("/mnt/../x", "s3a://bucket", "below /"),
    ],
)
def test_a_mount_that_cannot_be_is_refused_without_its_keys(
    tmp_path: Path, point: str, source: str, message: str
) -> None:
    with pytest.raises(MountError, match=message) as refused:
        MountTable(tmp_path / "mounts.json").add(point, source)
    assert "SECRET" not in str(refused.value)


def test_output_goes_to_the_run_of_its_thread_without_secrets(tmp_path: Path) -> None:
    redact = Redactor()
    redact.add("hush-hush")
    redact.add("no")  # too short to be hidden without spoiling everything else
    driver = io.StringIO()
    router = Router(driver, redact)
    logs = {name: RunLog(tmp_path / name, redact) for name in ("a", "b")}
    both_claimed = threading.Barrier(2)

    def work(name: str) -> None:
        router.claim(logs[name])
        both_claimed.wait()
        router.write(f"{name} says hush-hush, no more\n")
        both_claimed.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    router.write("two runs: whose is hush-hush?\n")
    router.release(logs["b"])
    router.write("one run: its callback\n")
    router.release(logs["a"])
    router.write("none\n")
    assert (tmp_path / "a").read_text() == "a says [REDACTED], no more\none run: its callback\n"
    assert (tmp_path / "b").read_text() == "b says [REDACTED], no more\n"
    assert driver.getvalue() == "two runs: whose is [REDACTED]?\nnone\n"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_a_log_is_cut_when_it_gets_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.databricks.output._LARGEST", 10)
    log = RunLog(tmp_path / "log", Redactor())
    for _ in range(5):
        log.write("12345678")
    assert (tmp_path / "log").read_text() == "1234567812345678\n*** output is cut here ***\n"


def test_the_causes_of_an_error_are_told_too(tmp_path: Path) -> None:
    def failing() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise RuntimeError("second") from error

    try:
        failing()
    except RuntimeError as error:
        message, trace = describe(error, tmp_path)
    assert message == "RuntimeError: second"
    assert "KeyError: 'first'" in trace
    assert "The above exception was the direct cause" in trace


@pytest.mark.parametrize("path", ["relative", "/a/../b", "/..", ""])
def test_a_path_that_climbs_out_is_refused(path: str) -> None:
    with pytest.raises(ApiError, match="must be absolute"):
        normalise(path)


@pytest.mark.parametrize(
    ("path", "expected"), [("/Workspace/Shared/x", "/Shared/x"), ("//Shared//x/", "/Shared/x"), ("/", "/")]
)
def test_one_object_has_one_path(path: str, expected: str) -> None:
    assert normalise(path) == expected


def test_imports_by_format(tmp_path: Path) -> None:
    tree = Workspace(tmp_path)
    header = b"# Databricks notebook source\n"

    def write(path: str, content: bytes, format_: str, language: str | None = None) -> tuple[str, object]:
        entry = tree.write(path, content, format_=format_, language=language, overwrite=False)
        return entry.path, entry.as_dict()["object_type"]

    assert write("/Shared/a.py", header, "AUTO") == ("/Shared/a", "NOTEBOOK")
    assert write("/Shared/b.py", b"x = 1", "AUTO") == ("/Shared/b.py", "FILE")
    assert write("/Shared/c", b"x = 1", "SOURCE", "PYTHON") == ("/Shared/c", "NOTEBOOK")
    assert tree.get("/Shared/c").file.read_bytes() == header + b"x = 1"
    assert write("/Shared/d.sql", b"-- Databricks notebook source\nSELECT 1", "AUTO") == (
        "/Shared/d",
        "NOTEBOOK",
    )
    assert [entry.path for entry in tree.list("/Shared")] == [
        f"/Shared/{name}" for name in ("a", "b.py", "c", "d")
    ]
    with pytest.raises(ApiError, match="already exists"):
        write("/Shared/a.py", header, "AUTO")
    with pytest.raises(ApiError, match="parent folder"):
        write("/Shared/none/a.py", header, "AUTO")
    with pytest.raises(ApiError, match="is a folder"):
        write("/Shared", b"", "AUTO")
    with pytest.raises(ApiError, match="language must be one of"):
        write("/Shared/e", b"", "SOURCE")
    with pytest.raises(ApiError, match="not supported"):
        write("/Shared/e", b"", "DBC")


def test_a_file_takes_the_place_of_a_notebook_of_its_name(tmp_path: Path) -> None:
    tree = Workspace(tmp_path)
    tree.write("/Shared/x", b"1", format_="SOURCE", language="PYTHON", overwrite=False)
    tree.write("/Shared/x", b"2", format_="SOURCE", language="SQL", overwrite=True)
    tree.write("/Shared/x", b"3", format_="RAW", language=None, overwrite=True)
    assert [(entry.path, entry.language) for entry in tree.list("/Shared")] == [("/Shared/x", None)]


def test_what_the_workspace_finds_keeps_its_mode(tmp_path: Path) -> None:
    for name, opened in (("state.db", Store), ("secrets.db", SecretScopes)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o640)
        opened(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


def test_secrets_are_kept_and_refused_as_on_databricks(tmp_path: Path) -> None:
    scopes = SecretScopes(tmp_path / "secrets.db")
    scopes.create_scope("aws")
    scopes.put("aws", "key", b"\x00binary")
    assert SecretScopes(tmp_path / "secrets.db").get("aws", "key") == b"\x00binary"
    assert stat.S_IMODE((tmp_path / "secrets.db").stat().st_mode) == 0o600
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: scopes.create_scope("aws"), "Scope aws already exists!"),
        (lambda: scopes.create_scope("a b"), "A scope name has"),
        (lambda: scopes.put("none", "key", b""), "Scope none does not exist!"),
        (lambda: scopes.put("aws", "key", b"x" * (128 * 1024 + 1)), "at most 131072 bytes"),
        (lambda: scopes.delete("aws", "none"), "Secret does not exist with scope: aws and key: none"),
    ]
    for call, message in refusals:
        with pytest.raises(ApiError) as refused:
            call()
        assert message in refused.value.message
    scopes.delete_scope("aws")
    assert scopes.scopes() == []


def test_modules_are_kept_between_runs_until_they_change(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    (folder / "lab_only_package").mkdir(parents=True)
    (folder / "lab_only_package" / "__init__.py").write_text("")
    module = folder / "lab_only_package" / "inner.py"
    module.write_text("VALUE = 1")
    modules = Modules(tmp_path)

    def load() -> object:
        __import__("lab_only_package.inner")
        return sys.modules["lab_only_package.inner"]

    before = list(sys.path)
    modules.enter(folder)
    first = load()
    modules.enter(folder)  # beside the first, and unchanged
    assert load() is first
    module.write_text("VALUE = 1000")
    modules.enter(folder)
    second = load()
    assert second is not first
    assert vars(second)["VALUE"] == 1000
    for _ in range(3):
        modules.leave(folder)
    assert sys.path == before
    modules.enter(tmp_path / "other")
    assert "lab_only_package.inner" not in sys.modules
    modules.leave(tmp_path / "other")


@pytest.mark.parametrize(
    "name",
    [
        "a\nb",
        "\x1b[2J",
        "\u202etxt.exe",
        "zero\u200bwidth",
        "line\u2028",
        ".hidden",
        "...",
        "__pycache__",
        "x" * 252,
        "é" * 126,
    ],
)
def test_a_name_that_cannot_be_seen_or_held_is_refused(name: str, tmp_path: Path) -> None:
    tree = Workspace(tmp_path)
    for path in (f"/Shared/{name}", f"/Shared/{name}/below"):
        with pytest.raises(ApiError) as refused:
            tree.mkdirs(path)
        assert refused.value.code == "INVALID_PARAMETER_VALUE"
        assert refused.value.message.isprintable()
    with pytest.raises(ApiError, match="The name "):
        tree.write(f"/Shared/{name}", b"", format_="RAW", language=None, overwrite=True)
    assert list((tmp_path / "Shared").iterdir()) == []


def test_the_longest_names_and_the_deepest_folder_are_held(tmp_path: Path) -> None:
    tree = Workspace(tmp_path)
    longest = "x" * 251
    tree.write(f"/Shared/{longest}", b"SELECT 1", format_="SOURCE", language="SQL", overwrite=False)
    assert [entry.path for entry in tree.list("/Shared")] == [f"/Shared/{longest}"]
    deepest = "/Shared" + "/d" * 59
    tree.mkdirs(deepest)
    with pytest.raises(ApiError, match="is deeper than 60 folders"):
        tree.mkdirs(f"{deepest}/d")
    tree.delete("/Shared/d", recursive=True)
    assert [entry.path for entry in tree.list("/Shared")] == [f"/Shared/{longest}"]


def test_a_symbolic_link_is_not_followed_and_not_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "secret.txt").write_text("secret")
    (outside / "notebook.py").write_text("# Databricks notebook source\n1")
    tree = Workspace(tmp_path / "workspace")
    links = {"folder": "folder", "file": "secret.txt", "notebook.py": "notebook.py", "dangling": "none"}
    for name, target in links.items():
        (tree.root / "Shared" / name).symlink_to(outside / target)
    (tree.root / "Shared" / "loop").symlink_to(tree.root / "Shared" / "loop")

    assert tree.list("/Shared") == []
    for path in ("folder", "file", "notebook", "dangling", "loop", "folder/below"):
        with pytest.raises(ApiError, match="doesn't exist"):
            tree.get(f"/Shared/{path}")
        with pytest.raises(ApiError, match="doesn't exist"):
            tree.delete(f"/Shared/{path}", recursive=True)
    for path in ("folder", "folder/below", "dangling", "loop"):
        with pytest.raises(ApiError) as refused:
            tree.mkdirs(f"/Shared/{path}")
        assert refused.value.code == "RESOURCE_ALREADY_EXISTS"
    for path in ("file", "notebook.py", "dangling", "loop", "folder/below"):
        with pytest.raises(ApiError):
            tree.write(f"/Shared/{path}", b"x", format_="RAW", language=None, overwrite=True)
    with pytest.raises(ApiError, match="is not empty"):
        tree.delete("/Shared", recursive=False)
    tree.delete("/Shared", recursive=True)  # links go, what they lead to stays
    assert (outside / "secret.txt").read_text() == "secret"
    assert sorted(path.name for path in outside.iterdir()) == ["folder", "notebook.py", "secret.txt"]
    assert list((outside / "folder").iterdir()) == []


def test_the_workspace_itself_may_lie_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    tree = Workspace(tmp_path / "home" / "workspace")
    tree.write("/Shared/x", b"1", format_="SOURCE", language="PYTHON", overwrite=False)
    assert [entry.path for entry in tree.list("/Shared")] == ["/Shared/x"]
    assert tree.root == tmp_path / "home" / "workspace"


def test_an_outcome_is_one_that_utf8_has() -> None:
    told = as_json(Outcome("failed", result="é\ud83d", error="\ud83d\x1b", error_trace=None))
    assert (told["result"], told["error"], told["error_trace"]) == (r"é\ud83d", "\\ud83d\x1b", None)


def test_a_page_shows_any_text_as_text() -> None:
    hostile = "</pre><script>\x1b[2J\u202e\ud83d"
    state = {"life_cycle_state": "TERMINATED", "result_state": "FAILED", "state_message": hostile}
    run = {"run_id": 1, "job_id": 2, "run_name": hostile, "state": state, "start_time": 0, "tasks": []}
    notebook = {"notebook_path": hostile, "base_parameters": {hostile: hostile}}
    task = {"task_key": hostile, "notebook_task": notebook, "state": state, "start_time": 0}
    output = {"error_trace": hostile, "notebook_output": {"result": hostile}}
    for text in (page.render_list([run]), page.render(run, [(task, output, hostile)])):
        body = bytes(_html(text).body).decode()
        assert "<script>" not in body
        assert "<bdi>&lt;/pre&gt;&lt;script&gt;" in body
        assert r"\ud83d</bdi>" in body
