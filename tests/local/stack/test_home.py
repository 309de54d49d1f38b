"""Which folder may become a stack's, and that nothing is deleted or changed that the stack has not made."""

import errno
import fcntl
import os
import pwd
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from local.stack import home as home_of_a_stack
from local.stack import parts, settings
from local.stack.errors import StackError
from local.stack.home import FILES, FOLDERS, MARK, ROOT, claim, forget, full, is_stack, locked


def named(monkeypatch, text):
    monkeypatch.setenv("PIPELINE_HOME", str(text))
    return settings.home_folder()


def refused(monkeypatch, text):
    with pytest.raises(StackError) as error:
        named(monkeypatch, text)
    return str(error.value)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def tree(folder):
    """Path -> mode and content of everything below a folder, links not followed."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None,
        )
        for path in folder.rglob("*")
    }


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A stack's folder with something in every entry that the stack makes."""
    monkeypatch.setenv("PORT_OFFSET", "auto")
    stack = settings.load_or_create(tmp_path / "home")
    for name in FOLDERS:
        (stack.home / name / "below").mkdir(exist_ok=True)
        (stack.home / name / "below" / "file").write_text(name)
    for name in FILES:
        (stack.home / name).write_text(name)
    return stack.home


# -- by name


@pytest.mark.parametrize(
    ("folder", "what"),
    [
        ("/", "the root of the file system"),
        (".", "the project's own folder, or one above it"),
        ("..", "the project's own folder, or one above it"),
        (ROOT, "the project's own folder, or one above it"),
        (ROOT.parent, "the project's own folder, or one above it"),
        ("dags/stack", "a part of the project"),
        ("plugins", "a part of the project"),
        (".git/stack", "a part of the project"),
        (".venv", "a part of the project"),
        ("~", "a user's home, or a folder above one"),
        (pwd.getpwuid(os.getuid()).pw_dir, "a user's home, or a folder above one"),
        ("/tmp", "a folder of the system"),
        ("/tmp/../var/tmp", "a folder of the system"),
        ("/mnt", "a folder of the system"),
        ("/srv", "a folder of the system"),
        ("/etc/stack", "a folder of the system"),
        ("/proc/self", "a folder of the system"),
        ("/dev/shm", "a folder of the system"),
    ],
)
def test_a_folder_that_is_meant_for_something_else_is_refused_by_name(monkeypatch, tmp_path, folder, what):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HOME", str(tmp_path))
    if "project" not in what:  # the checkout may lie in any of these, and then that is said
        monkeypatch.setattr(home_of_a_stack, "ROOT", Path("/data/checkout"))
    assert f"is {what}, and a stack needs a folder of its own. Name one that" in refused(monkeypatch, folder)


def test_every_users_home_and_what_is_above_it_is_refused(monkeypatch):
    user = pwd.struct_passwd(("ada", "x", 4711, 4711, "", "/data/people/ada", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwall", lambda: [user])
    for folder in ("/data/people/ada", "/data/people", "/data"):
        assert "a user's home, or a folder above one" in refused(monkeypatch, folder)
    assert named(monkeypatch, "/data/people/ada/stack") == Path("/data/people/ada/stack")


def test_a_folder_within_a_stack_is_refused(monkeypatch, home):
    assert f"inside the folder of another stack ({home})" in refused(monkeypatch, home / "warehouse" / "mine")


@pytest.mark.parametrize("folder", [".local", ".local-two", "build/test-stack", "elsewhere"])
def test_other_folders_in_the_checkout_are_welcome(monkeypatch, folder):
    monkeypatch.chdir(ROOT)
    assert named(monkeypatch, folder) == ROOT / folder


def test_without_a_name_it_is_dot_local(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert named(monkeypatch, "") == ROOT / ".local"


def test_a_link_is_judged_by_where_it_leads(monkeypatch, tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/etc")
    assert "a folder of the system" in refused(monkeypatch, link)
    link.unlink()
    link.symlink_to(tmp_path / "real")
    assert named(monkeypatch, link) == tmp_path / "real"


@pytest.mark.parametrize(
    "text", ["~no-such-user-4711/stack", "/loop/x"], ids=["a user that is not there", "a link to itself"]
)
def test_a_name_that_leads_nowhere_is_refused(monkeypatch, tmp_path, text):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "cannot be resolved" in refused(monkeypatch, text.replace("/loop", f"{tmp_path}/loop"))


# -- by characters

STRANGE = {
    character: character
    for character in ('"', "%", ";", "?", "'", "#", ":", ",", "$", "*", "&", "|", "<", ">", "(", ")", "=", "~")
} | {" ": "space", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\\": r"\\", "\x1b": r"\x1b", "\udcff": r"\udcff",
     "\u202e": r"\u202e", "\u200b": r"\u200b", "`": "`", "!": "!", "{": "{", "[": "[",
     "@": "@", "+": "+", "é": "é", "д": "д", "数": "数"}  # fmt: skip


@pytest.mark.parametrize(("character", "shown"), STRANGE.items(), ids=[f"U+{ord(c):04X}" for c in STRANGE])
def test_a_character_that_a_part_reads_as_its_own_is_refused_by_name(monkeypatch, tmp_path, character, shown):
    message = refused(monkeypatch, f"{tmp_path}/a{character}b")
    assert f"holds {shown}, which databases, Java, Spark or shells may read in a way of their own." in message
    assert "Choose another folder: PIPELINE_HOME=<folder>" in message
    assert message.isprintable()


def test_an_ini_section_in_a_name_is_refused(monkeypatch, tmp_path):
    assert "holds" in refused(monkeypatch, f"{tmp_path}/a\n[program:x]\ncommand=touch b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.b", "a-b_c", ".local-2", "Stack_3"])
def test_letters_digits_and_some_signs_are_welcome(monkeypatch, tmp_path, name):
    assert named(monkeypatch, tmp_path / name) == tmp_path / name


def test_a_relative_name_is_checked_with_the_folder_it_is_in(monkeypatch, tmp_path):
    (tmp_path / "my stacks").mkdir()
    monkeypatch.chdir(tmp_path / "my stacks")
    assert "holds space" in refused(monkeypatch, "one")


def test_a_checkout_with_such_a_name_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(parts, "ROOT", tmp_path / "my projects")
    with pytest.raises(
        StackError, match=r"cannot run where it lies: .* holds space, .* Move it to another folder"
    ):
        parts.check_installed()


# -- claim


def test_a_folder_with_something_in_it_is_refused_and_stays_as_it_is(tmp_path):
    (tmp_path / "thesis").mkdir(mode=0o755)
    (tmp_path / "thesis" / "my-thesis.txt").write_text("keep")
    before = tree(tmp_path)
    with pytest.raises(
        StackError, match=r"is not empty \(my-thesis\.txt\) and no stack has made it.*Name a folder"
    ):
        settings.load_or_create(tmp_path / "thesis")
    assert tree(tmp_path) == before


def test_a_stack_without_its_mark_is_marked_again_and_a_stack_json_of_another_kind_is_none(home, tmp_path):
    (home / MARK).unlink()
    claim(home)
    assert is_stack(home)
    assert (home / MARK).is_file()
    other = tmp_path / "other"
    (other / "etc").mkdir(parents=True)
    for content in ("{}", "[1]", "7", "", '{"stack_id": "prod"}'):
        (other / "etc" / "stack.json").write_text(content)
        with pytest.raises(StackError, match="no stack has made it"):
            claim(other)
    assert [path.name for path in other.iterdir()] == ["etc"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("keep")
    with pytest.raises(StackError, match="is no folder"):
        claim(tmp_path / "file")


def test_an_empty_folder_keeps_its_mode_and_what_is_made_in_it_is_private(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o755)
    settings.load_or_create(home)
    assert mode(home) == 0o755
    assert {path.name: mode(path) for path in home.iterdir()} == {
        **dict.fromkeys(FOLDERS, 0o700),
        MARK: 0o600,
    }


@pytest.mark.parametrize("permissions", [0o777, 0o775, 0o1777])
def test_an_empty_folder_to_which_others_may_write_is_refused(tmp_path, permissions):
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(permissions)
    with pytest.raises(StackError, match="Others may write to"):
        claim(home)
    assert (mode(home), list(home.iterdir())) == (permissions, [])


def test_a_half_made_folder_can_be_made_whole_and_reset(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT_OFFSET", "auto")
    home = tmp_path / "home"
    home.mkdir(mode=0o700)  # ended between making and marking it
    claim(home)  # ended after marking it
    (home / "etc").mkdir()
    (home / "etc" / "credentials.json").write_text("{")  # ended before stack.json
    assert not settings.exists(home)
    assert settings.load_or_create(home) == settings.load(home)
    assert forget(home) == []
    claim(home)
    assert forget(home) == []


# -- forget


def test_a_stack_is_forgotten_with_the_folder_that_it_has_made(home):
    assert forget(home) == []
    assert not home.exists()


def test_what_the_stack_has_not_made_stays_and_is_named(home):
    (home / "my-thesis.txt").write_text("keep")
    (home / "photos").mkdir()
    (home / "photos" / "cat").write_text("keep")
    expected = {name: fact for name, fact in tree(home).items() if name.startswith(("my", "photos", MARK))}
    assert forget(home) == ["my-thesis.txt", "photos"]
    assert tree(home) == expected
    settings.load_or_create(home)  # it is a stack's folder still
    (home / "my-thesis.txt").unlink()
    assert forget(home) == ["photos"]


def test_a_folder_that_was_there_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("PORT_OFFSET", "auto")
    (tmp_path / "home").mkdir(mode=0o700)
    settings.load_or_create(tmp_path / "home")
    assert forget(tmp_path / "home") == []
    assert list((tmp_path / "home").iterdir()) == []


@pytest.mark.parametrize("name", ["warehouse", "source.db", "etc"])
def test_an_entry_that_is_a_link_is_not_followed(home, tmp_path, name):
    outside = tmp_path / "outside"
    (home / name).rename(outside)
    (home / name).symlink_to(outside)
    before = tree(tmp_path)["outside"], tree(outside)
    assert forget(home) == [name]
    assert (tree(tmp_path)["outside"], tree(outside)) == before
    assert (home / name).is_symlink()


def test_a_link_below_an_entry_is_not_followed(home, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("keep")
    (home / "databricks" / "below" / "link").symlink_to(tmp_path / "outside")
    assert forget(home) == []
    assert (tmp_path / "outside" / "file").read_text() == "keep"


def test_a_home_that_is_a_link_stays_a_link(home, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(home)
    assert forget(named(monkeypatch, tmp_path / "link")) == []
    assert (tmp_path / "link").is_symlink()
    assert not home.exists()


def test_an_entry_of_another_kind_stays(home):
    (home / "source.db").unlink()
    (home / "source.db").mkdir()
    (home / "source.db" / "file").write_text("keep")
    assert forget(home) == ["source.db"]
    assert (home / "source.db" / "file").read_text() == "keep"


def test_nothing_is_deleted_where_something_is_mounted(home, monkeypatch):
    point = type("Partition", (), {"mountpoint": str(home / "kafka" / "below")})()
    monkeypatch.setattr(home_of_a_stack.psutil, "disk_partitions", lambda all: [point])
    before = tree(home)
    with pytest.raises(
        StackError, match=r"kafka/below is mounted inside the stack's folder; nothing was deleted"
    ):
        forget(home)
    assert tree(home) == before


def test_the_list_names_all_that_a_stack_says_it_writes_to(home):
    stack = settings.load(home)
    written = [stack.etc, stack.log, stack.run, stack.airflow_home, stack.airflow_test_home, stack.warehouse]
    assert {path.relative_to(home).parts[0] for path in written} <= set(FOLDERS)
    assert stack.source_database.name in FILES


# -- one at a time


def test_a_second_command_waits_and_says_so(home):
    said, entered = [], threading.Event()

    def second():
        with locked(home, said.append):
            entered.set()

    with locked(home, said.append):
        thread = threading.Thread(target=second)
        thread.start()
        while not said:
            pass
        assert not entered.is_set()
    thread.join(timeout=30)
    assert entered.is_set()
    assert f"works on the stack in {home}; waiting for it." in said[0]


def test_the_lock_ends_with_a_killed_holder(home):
    program = (
        "import pathlib, sys, time; from local.stack.home import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), print): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, home], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), (home / MARK).open() as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.kill()
    with locked(home, pytest.fail):
        pass


@pytest.mark.parametrize("then", ["reset", "deleted by hand"])
def test_who_waited_while_the_folder_went_makes_it_anew(home, then):
    said = []

    def second():
        with locked(home, said.append, make=True):
            said.append(is_stack(home))
            with (home / MARK).open() as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    with locked(home, print):
        thread = threading.Thread(target=second)
        thread.start()
        while not said:
            pass
        assert forget(home) == []
    thread.join(timeout=30)
    assert said[1:] == [True]


def test_a_folder_without_a_stack_is_not_touched_by_the_lock(tmp_path):
    with locked(tmp_path / "home", pytest.fail):
        assert not (tmp_path / "home").exists()


# -- a full disk


def test_a_full_file_system_is_told_with_its_folder(tmp_path, monkeypatch):
    facts = os.statvfs(tmp_path)
    none_left = os.statvfs_result((*facts[:4], 0, *facts[5:]))
    assert full(tmp_path) is None
    monkeypatch.setattr(os, "statvfs", lambda _: none_left)
    assert full(tmp_path / "not" / "made").startswith(
        f"No space left on device: the file system of {tmp_path} is full. Free some space"
    )


def test_a_file_that_cannot_be_written_is_named_and_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "file"
    settings.write_private(path, "old")

    class Full:
        def __init__(self, descriptor, *_, **__):
            os.close(descriptor)

        def __enter__(self):
            raise OSError(errno.ENOSPC, "No space left on device")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "fdopen", Full)
    with pytest.raises(OSError, match="No space left on device") as error:
        settings.write_private(path, "new")
    monkeypatch.undo()
    assert error.value.filename == str(path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("file", "old")]
