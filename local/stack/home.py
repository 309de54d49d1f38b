"""The folder of a stack: which one may become a stack's own, what the stack makes in it, and one command at a time.

A folder belongs to a stack once it holds the mark, the first file that a stack writes. Nothing here changes or
deletes what the stack has not made: a folder that was there keeps its mode, and `forget` removes the entries listed
here, never through a link.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from local.stack.errors import StackError

ROOT = Path(__file__).resolve().parents[2]
MARK = ".pinterest-stack"
"""Says that a folder is a stack's, and carries the lock that one command at a time holds."""
FOLDERS = ("airflow", "airflow-test", "aws", "databricks", "etc", "kafka", "log", "run", "warehouse")
FILES = ("source.db", "source.db-journal", "source.db-wal", "source.db-shm")
"""Everything that a stack makes in its folder, besides the mark."""

_MADE = "The stack has made this folder.\n"
_ALLOWED = re.compile(r"[\w./-]+", re.ASCII)
"""Names that every part was tried with; SQLAlchemy, supervisord, Kafka, Spark and shells read others as their own."""
_PROJECT = (
    *("bench", "dags", "docs", "include", "local", "msk", "mwaa", "plugins", "tests"),
    *(".ci", ".git", ".jars", ".venv"),
)
_SYSTEM = {
    Path("/", name)
    for name in ("bin", "boot", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "media", "mnt", "opt",
                 "proc", "run", "sbin", "srv", "sys", "tmp", "usr", "usr/local", "var", "var/tmp", "dev/shm")
}  # fmt: skip
_WHOLLY_SYSTEM = {
    Path("/", name) for name in ("bin", "boot", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr")
}


def named(text: str) -> Path:
    """Resolve what PIPELINE_HOME says into an absolute path.

    :raises StackError: no stack may live there, by its name alone.
    """
    try:
        written = Path(os.path.normpath(Path(text).expanduser().absolute()))
        home = written.resolve()
    except (RuntimeError, OSError) as error:
        raise StackError(f"PIPELINE_HOME={text!r} cannot be resolved: {error}") from None
    check_characters(home, f"PIPELINE_HOME={text!r}", "Choose another folder: PIPELINE_HOME=<folder>")
    if what := _meant_for_others(home) or _meant_for_others(written):
        raise StackError(
            f"PIPELINE_HOME={text!r} is {what}, and a stack needs a folder of its own. "
            f"Name one that does not exist yet: PIPELINE_HOME={home / 'stack' if home in _user_homes() else '.local'}"
        )
    return home


def check_characters(path: Path, what: str, remedy: str) -> None:
    """Refuse a path that a part of the stack would read as something else than a path.

    :raises StackError: it holds such a character.
    """
    if strange := sorted(set(_ALLOWED.sub("", str(path)))):
        listed = " ".join("space" if character == " " else repr(character)[1:-1] for character in strange)
        raise StackError(
            f"{what}: {str(path)!r} holds {listed}, which databases, Java, Spark or shells may read in a way of their "
            f"own. Letters of ASCII, digits and . _ - are safe. {remedy}"
        )


def _meant_for_others(home: Path) -> str | None:
    """What a folder is for, if its name says that it is no stack's."""
    if home == home.parent:
        return "the root of the file system"
    if home == ROOT or home in ROOT.parents:
        return "the project's own folder, or one above it"
    if home.is_relative_to(ROOT) and home.relative_to(ROOT).parts[0] in _PROJECT:
        return "a part of the project"
    if home in _SYSTEM | _temporary() or any(home.is_relative_to(folder) for folder in _WHOLLY_SYSTEM):
        return "a folder of the system"
    if any(home == user or home in user.parents for user in _user_homes()):
        return "a user's home, or a folder above one"
    if outer := next((folder for folder in home.parents if is_stack(folder)), None):
        return f"inside the folder of another stack ({outer})"
    return None


def _user_homes() -> set[Path]:
    named_homes = {Path(user.pw_dir) for user in pwd.getpwall()} | {Path("~").expanduser()}
    return {path.resolve() for path in named_homes if path.is_absolute() and path != Path("/")}


def _temporary() -> set[Path]:
    folders = {tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()}
    return {Path(folder).resolve() for folder in folders}


def is_stack(folder: Path) -> bool:
    """Whether a stack has begun to make its files in this folder, marked or made before there were marks."""
    try:
        return (folder / MARK).is_file() or {"stack_id", "ports"} <= set(
            json.loads((folder / "etc" / "stack.json").read_bytes())
        )
    except (OSError, ValueError, TypeError):
        return False


def claim(home: Path) -> None:
    """Make the folder of a stack and mark it, or mark one that is empty; do nothing where that has been done.

    :raises StackError: the folder holds something else, or others may write to it.
    """
    made = _made(home)
    if not made and not is_stack(home):
        if entries := sorted(path.name for path in home.iterdir()):
            raise StackError(
                f"{home} is not empty ({', '.join(entries[:3])}{', …' if entries[3:] else ''}) and no stack has made "
                "it, so nothing was changed. Name a folder that does not exist yet: PIPELINE_HOME=<folder> make up"
            )
        facts = home.stat()
        if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o022:
            raise StackError(
                f"Others may write to {home}, and a stack keeps credentials in its folder. "
                "Name a folder that does not exist yet: PIPELINE_HOME=<folder> make up"
            )
    mark(home, made=made)


def mark(home: Path, *, made: bool = False) -> None:
    """Mark a folder as a stack's own, unless it is marked.

    :param made: whether the stack has made the folder too, and not only what lies in it.
    """
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(home / MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(_MADE if made else "A stack lives in this folder.\n")


def _made(home: Path) -> bool:
    try:
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        home.mkdir(mode=0o700)
    except FileExistsError:
        if not home.is_dir():
            raise StackError(
                f"{home} is no folder. Name another one: PIPELINE_HOME=<folder> make up"
            ) from None
        return False
    return True


def mark_again(home: Path) -> None:
    """Mark a folder that was deleted under a running stack, if all that is there now is what a stack makes."""
    if home.is_dir() and {path.name for path in home.iterdir()} <= {*FOLDERS, *FILES, MARK}:
        mark(home)


def make_folders(home: Path) -> None:
    """Make what the parts write to, for its owner only, whoever may look into the folder around it."""
    for name in FOLDERS:
        (home / name).mkdir(mode=0o700, exist_ok=True)


def unclaim(home: Path) -> None:
    """Take the mark off a folder in which no stack can be made, if nothing has been put into it."""
    with contextlib.suppress(OSError):
        (home / "run").rmdir()
    if {path.name for path in home.iterdir()} == {MARK}:
        (home / MARK).unlink()


def forget(home: Path) -> list[str]:
    """Remove what a stack has made in its folder, then the folder itself if it is empty and the stack's own.

    :return: what was left where it is: it was not made by the stack.
    :raises StackError: something else is mounted inside.
    """
    mounted = sorted(each.mountpoint for each in psutil.disk_partitions(all=True))
    if inside := [point for point in mounted if home in Path(point).parents]:
        raise StackError(
            f"{', '.join(inside)} is mounted inside the stack's folder; nothing was deleted. "
            "Unmount it, then: make reset"
        )
    for name in FOLDERS:
        if _is_folder(home / name):
            shutil.rmtree(home / name)
    for name in FILES:
        if (home / name).is_file() and not (home / name).is_symlink():
            (home / name).unlink()
    if left := sorted(path.name for path in home.iterdir() if path.name != MARK):
        return left  # the mark stays too: the folder can be a stack's again
    made = _read_mark(home) == _MADE
    (home / MARK).unlink(missing_ok=True)
    if made:
        with contextlib.suppress(OSError):  # somebody has put something into it just now
            home.rmdir()
    return []


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _read_mark(home: Path) -> str:
    try:
        return (home / MARK).read_text("utf-8")
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def locked(home: Path, say: Callable[[str], None], *, make: bool = False) -> Iterator[None]:
    """Let one command at a time change a stack; the next one waits. The lock ends with its holder, however that ends.

    :param make: claim the folder first; otherwise a folder that is no stack's is left alone, unlocked.
    """
    while True:
        if make:
            claim(home)
        try:
            lock = os.open(home / MARK, os.O_RDWR | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            if make:
                continue  # it was reset just now
            yield
            return
        try:
            _await(lock, home, say)
            if _is_still(lock, home / MARK):
                yield
                return
        finally:
            os.close(lock)


def _await(lock: int, home: Path, say: Callable[[str], None]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(
            f"Another command (make up, down, reset or demo) works on the stack in {home}; waiting for it. "
            "Ctrl-C there ends that one, Ctrl-C here this one."
        )
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_still(lock: int, path: Path) -> bool:
    """Whether the file that is locked is the one at this path: a reset has removed it otherwise."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except (FileNotFoundError, NotADirectoryError):
        return False


def full(folder: Path) -> str | None:
    """A sentence that says so when there is no space left in a folder's file system; otherwise None."""
    folder = next(each for each in (folder, *folder.parents) if each.is_dir())
    facts = os.statvfs(folder)
    if facts.f_bavail * facts.f_frsize >= _LEAST_BYTES and (facts.f_favail or not facts.f_files):
        return None
    return (
        f"No space left on device: the file system of {folder} is full. Free some space, or name a folder on "
        "another one (PIPELINE_HOME=<folder>), then run the command again."
    )


_LEAST_BYTES = 1 << 20
