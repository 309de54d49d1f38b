"""Build the artefacts that AWS and Databricks are given, in ``build/mwaa/``, the same bytes from the same input."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mwaa.errors import PackageError

ROOT = Path(__file__).resolve().parents[1]
# The first moment that a zip entry can have: the time of a build is not part of what was built.
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
# The one jar of the sink that is built here; all others come from a repository, always the same.
OUR_JAR = re.compile(r"s3-sink-[0-9.]+\.jar")
NUMERIC_BOUND = re.compile(r"^ +(?:minimum|maximum|(?:min|max)(?:Length|Items)): \d+\n", re.M)
# Where MWAA unpacks plugins.zip.
MWAA_PLUGINS = "/usr/local/airflow/plugins"


def build(target: Path, *, packages: Path | None = None, wheels: Path | None = None) -> dict[str, str]:
    """Build every artefact anew.

    What MWAA takes from its bucket: ``dags/`` (with ``include/``), ``plugins.zip``, ``requirements.txt``,
    ``startup.sh``. What the other parts take: ``rest_proxy.zip``, ``s3_sink.zip`` (a Connect plug-in),
    ``openapi.yaml``, ``connector.json``, ``notebooks/``.

    :param packages: what the REST proxy needs, see :func:`mwaa.environment.proxy_packages`.
    :param wheels: for an environment without a way out: what requirements.txt needs, see
        :func:`mwaa.environment.requirement_wheels`; goes into ``plugins.zip``.
    :return: path below ``target`` -> SHA-256, sorted by path.
    :raises PackageError: the sink plug-in has not been built.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    _copy(ROOT / "dags", target / "dags")
    _copy(ROOT / "include" / "emulation", target / "dags" / "include" / "emulation")
    shutil.copyfile(ROOT / "include" / "__init__.py", target / "dags" / "include" / "__init__.py")
    (target / "requirements.txt").write_text(_requirements(offline=wheels is not None), "utf-8")
    shutil.copyfile(ROOT / "mwaa" / "startup.sh", target / "startup.sh")
    (target / "openapi.yaml").write_text(_openapi(), "utf-8")
    (target / "connector.json").write_text(_connector(), "utf-8")
    _copy(ROOT / "include" / "notebooks", target / "notebooks")
    _zip(target / "plugins.zip", {"": ROOT / "plugins"} | ({"wheels/": wheels} if wheels else {}))
    proxy = {"msk/rest_proxy/": ROOT / "msk" / "rest_proxy"}
    _zip(target / "rest_proxy.zip", proxy | ({"packages/": packages} if packages else {}))
    sink = ROOT / ".jars" / "connect-plugins" / "s3_sink"
    if not sink.is_dir():
        raise PackageError("The S3 sink has not been built. Run: make install")
    _zip(target / "s3_sink.zip", {"s3_sink/": sink})
    return checksums(target)


def checksums(folder: Path) -> dict[str, str]:
    """Return path -> SHA-256 of every file of a folder, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _requirements(*, offline: bool) -> str:
    """Return requirements.txt; offline it looks for wheels in the unpacked plugins.zip and nowhere else."""
    text = (ROOT / "requirements.txt").read_text("utf-8")
    return f"--no-index\n--find-links {MWAA_PLUGINS}/wheels\n{text}" if offline else text


def _openapi() -> str:
    """Return openapi.yaml as api.yaml includes it: without the bounds that are numbers.

    CloudFormation makes texts of the numbers in a body, and what API Gateway makes of a bound that is a text is written
    nowhere: perhaps nothing, perhaps a refusal of the whole API. Kinesis has the same bounds.
    """
    text = (ROOT / "mwaa" / "cloudformation" / "openapi.yaml").read_text("utf-8")
    return NUMERIC_BOUND.sub("", text)


def _connector() -> str:
    """Return msk/connector.json as connect.yaml includes it: its placeholders are CloudFormation's to fill in."""
    names = {"${prefix}": "${Prefix}", "${bucket}": "${DataBucket}", "${region}": "${AWS::Region}"}
    properties = json.loads((ROOT / "msk" / "connector.json").read_text("utf-8"))
    del properties["store.url"]  # on AWS it is Amazon S3
    found: dict[str, Any] = {}
    for key, value in properties.items():
        for ours, theirs in names.items():
            value = value.replace(ours, theirs)
        found[key] = {"Fn::Sub": value} if "${" in value else value
    return json.dumps(found, indent=2) + "\n"


def _files(folder: Path) -> Iterator[Path]:
    """Every file of a folder that is source, dotfiles included, links left out, in a fixed order."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts and not _through_link(path, folder):
            yield path


def _through_link(path: Path, folder: Path) -> bool:
    return any(
        parent.is_symlink()
        for parent in (path, *path.parents)
        if parent.is_relative_to(folder) and parent != folder
    )


def _copy(source: Path, target: Path) -> None:
    for path in _files(source):
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _zip(target: Path, folders: dict[str, Path]) -> None:
    """Zip the contents of folders, each below a prefix; nothing but names and bytes goes in."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for inside, source in folders.items():
            for path in _files(source):
                content = _repacked(path) if OUR_JAR.fullmatch(path.name) else path.read_bytes()
                archive.writestr(_entry(f"{inside}{path.relative_to(source).as_posix()}"), content)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, ZIP_EPOCH)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _repacked(jar: Path) -> bytes:
    """Return a jar without the modes of files, which Maven writes into it: they are the umask's of whoever built it."""
    content = io.BytesIO()
    with zipfile.ZipFile(jar) as source, zipfile.ZipFile(content, "w", compresslevel=9) as target:
        for name in source.namelist():
            target.writestr(_entry(name), source.read(name))
    return content.getvalue()
