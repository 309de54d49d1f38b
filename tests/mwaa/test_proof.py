"""The proof before upload, and what it must catch; here in the laptop's environment, which has MWAA's pins."""

import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from mwaa import package, proof
from mwaa.errors import PackageError

PYTHON = Path(sys.executable)


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built, tmp_path / "copy")


def edit_plugins(built, edit):
    """Rewrite plugins.zip: `edit` gets the folder of its contents."""
    folder = built.parent / "plugins"
    with zipfile.ZipFile(built / "plugins.zip") as archive:
        archive.extractall(folder)
    edit(folder)
    package._zip(built / "plugins.zip", {"": folder})


@pytest.mark.parametrize("component", ["web-server", "dag-processor", "worker"])
def test_what_is_built_runs(built, component):
    assert proof.prove(built, PYTHON, [component]) == []


def test_a_trigger_that_imports_include_is_caught(copy):
    def edit(folder):
        trigger = folder / "pinterest_pipeline" / "triggers" / "kinesis.py"
        trigger.write_text(
            trigger.read_text().replace("import asyncio\n", "import asyncio\nimport include\n", 1)
        )
        assert "import include" in trigger.read_text()

    edit_plugins(copy, edit)
    wrong = proof.prove(copy, PYTHON, ["triggerer"])
    assert len(wrong) == 1
    assert "pinterest_pipeline.triggers.kinesis does not import: ModuleNotFoundError" in wrong[0]
    assert "'include'" in wrong[0]


def test_a_dag_that_reads_a_variable_or_connection_is_caught(copy):
    dag = copy / "dags" / "pinterest_daily_batch.py"
    reads = 'from airflow.sdk import BaseHook, Variable\nVariable.get("colour", default="red")\n'
    reads += 'try:\n    BaseHook.get_connection("paint")\nexcept Exception:\n    pass\n'
    dag.write_text(dag.read_text() + reads)
    assert proof.prove(copy, PYTHON, ["dag-processor"]) == [
        "dag-processor: a DAG reads the Variable colour while it is parsed",
        "dag-processor: a DAG reads the connection paint while it is parsed",
    ]


def test_a_deprecated_import_and_a_broken_dag_are_caught(copy):
    dag = copy / "dags" / "pinterest_daily_batch.py"
    dag.write_text(dag.read_text() + "from airflow.utils.dates import days_ago\n")
    other = copy / "dags" / "pinterest_msk_ingestion.py"
    other.write_text(other.read_text() + "import warnings\nwarnings.warn('old', DeprecationWarning)\n")
    wrong = "\n".join(proof.prove(copy, PYTHON, ["dag-processor"]))
    assert "dags/pinterest_daily_batch.py does not parse: ImportError" in wrong
    assert "dags/pinterest_msk_ingestion.py warns" in wrong


def test_plugins_zip_without_its_dotfile_is_caught(copy):
    edit_plugins(copy, lambda folder: (folder / ".airflowignore").unlink())
    wrong = proof.prove(copy, PYTHON, ["web-server"])
    assert len(wrong) == 1
    assert re.fullmatch(
        r"web-server: plugins\.zip: Airflow runs \d\d modules as plug-ins, pinterest_pipeline/alarms\.py the first: "
        r"it lacks \.airflowignore",
        wrong[0],
    )


def test_a_comment_that_switches_mwaas_pins_off_is_caught(copy):
    with (copy / "requirements.txt").open("a") as file:
        file.write("# as with pip install -c constraints.txt\n")
    assert "switches MWAA's own pins off" in proof.prove(copy, PYTHON, [])[0]


def test_only_what_was_proved_counts_as_proved(copy):
    assert not proof.is_proved(copy)
    proof.mark_proved(copy)
    assert proof.is_proved(copy)
    (copy / "startup.sh").write_text("echo\n")
    assert not proof.is_proved(copy)


def test_everything_that_is_wrong_is_in_one_message():
    with pytest.raises(PackageError, match=r"Nothing was uploaded\.\n  a\n  b$"):
        proof._check(["a", "b", "a"])
