from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient

from pinterest_pipeline.page import Page
from pinterest_plugin import PinterestPlugin

PLUGINS = Path(__file__).parents[2] / "plugins"
WEB_SERVER = ("fastapi", "airflow.api_fastapi")


def in_a_new_process(program: str, home: Path, **environment: str) -> list[str]:
    """Run a program as a task's process would be, and return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(PLUGINS),
            "PYTHONPATH": str(PLUGINS),
            **environment,
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_the_link_leads_to_the_page() -> None:
    (app,) = PinterestPlugin.fastapi_apps
    (view,) = PinterestPlugin.external_views
    assert view["href"] == app["url_prefix"] + "/"
    assert view["destination"] == "nav"


@pytest.mark.parametrize(
    ("base_url", "href"),
    [
        ("https://airflow.example", "/pinterest/"),
        ("https://example.org/team/airflow/", "/team/airflow/pinterest/"),
    ],
)
def test_the_link_leads_to_the_page_where_airflow_lies_below_a_path(
    tmp_path: Path, base_url: str, href: str
) -> None:
    program = "from pinterest_plugin import PinterestPlugin\nprint(PinterestPlugin.external_views[0]['href'])"
    assert in_a_new_process(program, tmp_path, AIRFLOW__API__BASE_URL=base_url)[-1] == href


def test_a_tasks_process_loads_the_plug_in_without_the_web_server(tmp_path: Path) -> None:
    program = f"""
import sys
import airflow.sdk.execution_time.task_runner
import pinterest_plugin
print([name for name in {WEB_SERVER!r} if name in sys.modules], pinterest_plugin.PinterestPlugin.name)
"""
    assert in_a_new_process(program, tmp_path)[-1] == "[] pinterest_pipeline"


def test_the_page_is_built_at_its_first_request() -> None:
    page = Page()
    assert "app" not in vars(page)
    outer = FastAPI()
    outer.mount("/pinterest", page)
    assert TestClient(outer).get("/pinterest/").status_code in {401, 403}
    page.app.dependency_overrides[get_user] = lambda: object()
    assert "[pinterest] bucket: not set" in TestClient(outer).get("/pinterest/").text
