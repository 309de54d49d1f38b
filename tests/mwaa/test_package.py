"""The artefacts: what is in them, and that building twice gives the same bytes."""

import io
import zipfile
from pathlib import Path

import pytest

from mwaa import package


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A package of the real tree; the plug-in's jars are stood in for, they are tested where they are built."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("dags", "include", "plugins", "msk", "mwaa", "requirements.txt"):
        (root / name).symlink_to(package.ROOT / name)
    jar = root / ".jars" / "connect-plugins" / "s3_sink" / "sink.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"jar")
    monkeypatch.setattr(package, "ROOT", root)
    return package.build(tmp_path / "out"), tmp_path / "out"


def test_the_same_input_gives_the_same_bytes(built, tmp_path):
    assert package.build(tmp_path / "again") == built[0]


def test_the_sink_is_the_same_under_another_umask(built, tmp_path):
    """Maven writes the modes of its files into the jar that it makes."""
    jars = package.ROOT / ".jars" / "connect-plugins" / "s3_sink"

    def jar(name, mode):
        with zipfile.ZipFile(jars / name, "w") as archive:
            for entry, content in (("pinterest/", b""), ("pinterest/Sink.class", b"class")):
                info = zipfile.ZipInfo(entry, (2026, 1, 1, 0, 0, 0))
                info.external_attr = mode << 16
                archive.writestr(info, content)

    def sink(mode):
        jar("s3-sink-0.1.0.jar", mode)
        return package.build(tmp_path / "sink")["s3_sink.zip"]

    jar("of-others-1.0.jar", 0o640)
    assert sink(0o644) == sink(0o600)
    with zipfile.ZipFile(tmp_path / "sink" / "s3_sink.zip") as archive:
        assert archive.read("s3_sink/of-others-1.0.jar") == (jars / "of-others-1.0.jar").read_bytes()
        with zipfile.ZipFile(io.BytesIO(archive.read("s3_sink/s3-sink-0.1.0.jar"))) as ours:
            assert ours.namelist() == ["pinterest/", "pinterest/Sink.class"]
            assert ours.read("pinterest/Sink.class") == b"class"


def test_the_dags_prefix_is_laid_out_as_mwaa_reads_it(built):
    dags = {name for name in built[0] if name.startswith("dags/")}
    assert {"dags/.airflowignore", "dags/include/__init__.py", "dags/include/emulation/source.py"} <= dags
    assert {Path(name).stem for name in dags if name.count("/") == 1 and name.endswith(".py")} == {
        "pinterest_msk_ingestion",
        "pinterest_daily_batch",
        "pinterest_kinesis_streams",
    }
    assert not [name for name in dags if "notebooks" in name]


def test_plugins_zip_holds_the_contents_with_dotfiles(built):
    with zipfile.ZipFile(built[1] / "plugins.zip") as archive:
        names = archive.namelist()
    assert ".airflowignore" in names
    assert "pinterest_plugin.py" in names
    assert "pinterest_pipeline/gateway.py" in names
    assert not [name for name in names if "pycache" in name or name.startswith(("include", "plugins"))]


def test_an_unbuilt_plug_in_says_what_to_run(tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    for name in ("dags", "include", "plugins", "msk", "mwaa", "requirements.txt"):
        (root / name).symlink_to(package.ROOT / name)
    monkeypatch.setattr(package, "ROOT", root)
    with pytest.raises(package.PackageError, match="make install"):
        package.build(tmp_path / "out")
