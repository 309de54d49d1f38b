"""The files as MWAA lays them out: no repository root, no PYTHONPATH, plugins and dags in their folders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LOAD = """
import pkgutil, sys
from airflow import plugins_manager, settings
settings.prepare_syspath_for_config_and_plugins()
plugins, errors = plugins_manager._get_plugins()
assert not errors, errors
assert "pinterest_pipeline" in [plugin.name for plugin in plugins], plugins

import pinterest_pipeline.triggers as triggers
names = [module.name for module in pkgutil.iter_modules(triggers.__path__)]
for name in names:
    __import__(f"pinterest_pipeline.triggers.{name}")
assert {"s3_sink", "kinesis", "msk_connect", "databricks"} <= set(names), names
assert "include" not in sys.modules, "the triggerer has no DAG folder"
try:
    import include
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("include can be imported without the DAG folder")

from airflow.dag_processing.dagbag import DagBag
bag = DagBag(settings.DAGS_FOLDER)
assert bag.import_errors == {}, bag.import_errors
assert sorted(bag.dags) == ["pinterest_daily_batch", "pinterest_kinesis_streams", "pinterest_msk_ingestion"]

sys.path.append(settings.DAGS_FOLDER)
from include.emulation.emulation import emulate
import include
assert include.__file__ is None or include.__file__.startswith(settings.DAGS_FOLDER), include.__file__
print("loaded")
"""


@pytest.fixture
def mwaa_home(tmp_path: Path) -> Path:
    """AIRFLOW_HOME as MWAA fills it: plugins.zip unpacked, include/ within the DAG folder."""
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dags", tmp_path / "dags", ignore=without_caches)
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins", ignore=without_caches)
    assert not (tmp_path / "dags" / "include").is_symlink(), "copytree follows the link, as packaging does"
    return tmp_path


def test_everything_loads(mwaa_home: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(mwaa_home),
        "AIRFLOW_HOME": str(mwaa_home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__PINTEREST__BUCKET": "tests-bucket",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-W", "error::ImportWarning", "-c", LOAD],
        env=environment,
        cwd=mwaa_home,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "loaded"
