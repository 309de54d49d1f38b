"""The workspace tree: folders, notebooks and files, kept as plain files so that notebooks can import modules.

A notebook ``/Shared/x/clean`` lies on disk as ``Shared/x/clean.py``, known by its first line; a workspace file
keeps its own name. ``/Workspace/Shared`` and ``/Shared`` are the same folder, as on Databricks.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from local.databricks.errors import ApiError
from local.databricks.notebook import Language, language_of

_CACHE = "__pycache__"
# Control and format characters, line and paragraph separators, halves of surrogate pairs.
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Cs"})
# What a file system gives a name, less the suffix of a notebook.
_LONGEST_NAME = 255 - len(".sql")
_DEEPEST = 60


@dataclass(frozen=True)
class Entry:
    """One object of the tree: its workspace path, where it lies on disk, and its language if it is a notebook."""

    path: str
    file: Path
    language: Language | None = None

    def as_dict(self) -> dict[str, object]:
        """The object as the Workspace API describes it; times are milliseconds since the epoch."""
        status = self.file.stat()
        kind = "DIRECTORY" if self.file.is_dir() else "NOTEBOOK" if self.language else "FILE"
        described: dict[str, object] = {
            "object_type": kind,
            "path": self.path,
            "object_id": object_id(self.path),
        }
        if self.language:
            described["language"] = self.language.value
        if kind != "DIRECTORY":
            described["created_at"] = described["modified_at"] = int(status.st_mtime * 1000)
        if kind == "FILE":
            described["size"] = status.st_size
        return described


class Workspace:
    """The tree below one folder. Paths are absolute workspace paths; all methods raise ApiError."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in ("Shared", "Users"):
            (root / folder).mkdir(parents=True, exist_ok=True)

    def find(self, path: str) -> Entry | None:
        """The object at a path, or None. A notebook is found without its suffix."""
        path = normalise(path)
        for language in Language:
            file = self._file(path + language.suffix)
            if path != "/" and file.is_file() and self._is_inside(file) and _language(file) is language:
                return Entry(path, file, language)
        file = self._file(path)
        if self._is_inside(file) and (file.is_dir() or (file.is_file() and _language(file) is None)):
            return Entry(path, file)
        return None

    def get(self, path: str) -> Entry:
        """The object at a path. Raises RESOURCE_DOES_NOT_EXIST."""
        entry = self.find(path)
        if entry is None:
            raise ApiError("RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.")
        return entry

    def list(self, path: str) -> list[Entry]:
        """What a folder holds, by name; a notebook or file lists itself."""
        entry = self.get(path)
        if not entry.file.is_dir():
            return [entry]
        return [
            Entry(str(PurePosixPath(entry.path) / _name(file, language := _language(file))), file, language)
            for file in sorted(entry.file.iterdir())
            if not _is_hidden(file.name) and self._is_inside(file)
        ]

    def mkdirs(self, path: str) -> None:
        """Makes a folder and the folders above it; a folder that exists is left as it is."""
        path = normalise(path)
        for part in [*reversed(PurePosixPath(path).parents), PurePosixPath(path)]:
            entry = self.find(str(part))
            if entry and not entry.file.is_dir():
                raise ApiError("RESOURCE_ALREADY_EXISTS", f"Path ({part}) is a notebook or a file.")
            if entry is None:
                self._check_free(self._file(str(part)), str(part))
        self._file(path).mkdir(parents=True, exist_ok=True)

    def write(
        self, path: str, content: bytes, *, format_: str, language: str | None, overwrite: bool
    ) -> Entry:
        """Imports a notebook or file; a reader sees the old or the new content, never half of it."""
        path = normalise(path)
        target, content = _imported(path, content, format_, language)
        parent = PurePosixPath(path).parent
        folder = self.find(str(parent))
        if folder is None or not folder.file.is_dir():
            raise ApiError("RESOURCE_DOES_NOT_EXIST", f"The parent folder ({parent}) does not exist.")
        existing = self.find(target.path)
        if existing and existing.file.is_dir():
            raise ApiError("RESOURCE_ALREADY_EXISTS", f"Path ({target.path}) is a folder.")
        if existing and not overwrite:
            raise ApiError("RESOURCE_ALREADY_EXISTS", f"Path ({target.path}) already exists.")
        file = self._file(target.path + (target.language.suffix if target.language else ""))
        if existing is None or existing.file != file:
            self._check_free(file, target.path)
        _replace(file, content)
        if existing and existing.file != file:
            existing.file.unlink()
        return Entry(target.path, file, target.language)

    def delete(self, path: str, *, recursive: bool) -> None:
        """Deletes an object; a folder that holds something only when ``recursive``."""
        entry = self.get(path)
        if entry.path == "/":
            raise ApiError("INVALID_PARAMETER_VALUE", "The root of the workspace cannot be deleted.")
        if not entry.file.is_dir():
            entry.file.unlink()
        elif recursive:
            shutil.rmtree(entry.file)
        elif any(file.name != _CACHE for file in entry.file.iterdir()):
            raise ApiError(
                "DIRECTORY_NOT_EMPTY", f"Folder ({entry.path}) is not empty; set recursive to delete it."
            )
        else:
            shutil.rmtree(entry.file)

    def _is_inside(self, file: Path) -> bool:
        """Whether no symbolic link leads to a file: a link may lead out of the workspace, so none is followed."""
        real = Path(os.path.realpath(self.root)) / file.relative_to(self.root)
        return os.path.realpath(file) == str(real) and not file.is_symlink()

    @staticmethod
    def _check_free(file: Path, path: str) -> None:
        """Refuse to write over what the workspace does not show."""
        if os.path.lexists(file):
            message = f"Path ({path}) is taken on disk by what is no object of the workspace: {file}"
            raise ApiError("RESOURCE_ALREADY_EXISTS", message)

    def _file(self, path: str) -> Path:
        return self.root / path.lstrip("/")


def object_id(path: str) -> int:
    """The number of the object at a path."""
    return int(hashlib.sha256(path.encode()).hexdigest()[:12], 16)


@dataclass(frozen=True)
class _Target:
    path: str
    language: Language | None


def normalise(path: str) -> str:
    """One spelling a path. Raises INVALID_PARAMETER_VALUE for a relative path or one that climbs out."""
    pure = PurePosixPath(path)
    if not pure.is_absolute() or ".." in pure.parts:
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"Path ({_shortened(path)}) must be absolute and without '..'."
        )
    parts = [part for part in pure.parts if not part.startswith("/")]
    if parts[:1] == ["Workspace"]:
        del parts[0]
    for part in parts:
        _check_name(part)
    if len(parts) > _DEEPEST:
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"Path ({_shortened(path)}) is deeper than {_DEEPEST} folders."
        )
    return "/" + "/".join(parts)


def _check_name(name: str) -> None:
    """Refuse a name that the disk cannot hold, or that is not what it looks like."""
    unseen = [character for character in name if unicodedata.category(character) in _UNSEEN]
    if unseen:
        problem = f"holds U+{ord(unseen[0]):04X}, which cannot be seen"
    elif _is_hidden(name):
        problem = "is hidden here: a name may not begin with a dot, nor be __pycache__"
    elif len(name.encode()) > _LONGEST_NAME:
        problem = f"is longer than {_LONGEST_NAME} bytes"
    else:
        return
    raise ApiError("INVALID_PARAMETER_VALUE", f"The name {_shortened(name)} {problem}.")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == _CACHE


def _shortened(text: str) -> str:
    """A text that is safe to show, at its length."""
    shown = "".join(c if unicodedata.category(c) not in _UNSEEN else f"\\u{ord(c):04x}" for c in text[:100])
    return shown if len(text) <= 100 else f"{shown}…"


def _imported(path: str, content: bytes, format_: str, language: str | None) -> tuple[_Target, bytes]:
    """What an import makes of its path and content, by the format asked for."""
    if format_ == "SOURCE":
        try:
            known = Language(language or "")
        except ValueError:
            message = f"language must be one of {', '.join(Language)} for format SOURCE, not {language!r}."
            raise ApiError("INVALID_PARAMETER_VALUE", message) from None
        text = _text(content)
        if language_of(text) is not known:
            content = f"{known.header}\n{text}".encode()
        return _Target(path, known), content
    if format_ not in ("AUTO", "RAW"):
        raise ApiError(
            "INVALID_PARAMETER_VALUE", f"format {format_} is not supported here; use SOURCE, AUTO or RAW."
        )
    found = language_of(_text(content)) if Path(path).suffix in {lang.suffix for lang in Language} else None
    if found and path.endswith(found.suffix):
        return _Target(path.removesuffix(found.suffix), found), content
    return _Target(path, None), content


def _text(content: bytes) -> str:
    return content.decode("utf-8", errors="replace")


def _language(file: Path) -> Language | None:
    if not file.is_file() or file.suffix not in {language.suffix for language in Language}:
        return None
    with file.open("rb") as opened:
        found = language_of(_text(opened.readline(200)))
    return found if found and file.suffix == found.suffix else None


def _name(file: Path, language: Language | None) -> str:
    return file.name.removesuffix(language.suffix) if language else file.name


def _replace(file: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=".import-")
    with os.fdopen(handle, "wb") as opened:
        opened.write(content)
    Path(name).replace(file)
