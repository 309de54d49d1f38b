"""Runs of the batch go one after the other, however they come about: asked of Airflow's own API and scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.utils.types import DagRunType

from tests.dags.conftest import OPTIONS, ROOT


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What an Airflow with a database of its own says; see overlap_script.py."""
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        **{f"AIRFLOW__PINTEREST__{name}": value for name, value in OPTIONS.items()},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "PYTHONPATH": f"{ROOT}/plugins:{ROOT}",
    }
    script = Path(__file__).with_name("overlap_script.py")
    ended = subprocess.run(
        [sys.executable, str(script), str(ROOT / "dags")],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def test_every_other_kind_of_run_is_allowed(dag_bag: Any) -> None:
    allowed = dag_bag.dags["pinterest_daily_batch"].allowed_run_types
    assert {str(kind) for kind in DagRunType} - {kind.value for kind in allowed} == {"backfill"}


def test_a_backfill_is_refused(said: Any) -> None:
    assert said["backfill"] == [400, "Dag with dag_id: 'pinterest_daily_batch' does not allow backfill runs"]
    assert said["dry_run"] == 400


def test_runs_by_hand_and_by_the_schedule_queue_behind_each_other(said: Any) -> None:
    assert said["triggered"] == [200, 200]
    assert said["switched_on"] == 200
    assert said["at_switching_on"] == {"by-hand-1": "running", "by-hand-2": "queued"}
    assert said["at_midnight"] == {"by-hand-1": "running", "by-hand-2": "queued", "scheduled": "queued"}
    assert list(said["then"].values()).count("running") == 1
    assert said["then"]["by-hand-1"] == "success"
    assert sorted(said["last"].values()) == ["running", "success", "success"]
