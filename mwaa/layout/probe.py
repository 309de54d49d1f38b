"""Runs inside a staged MWAA, as one of its components: python probe.py COMPONENT. Prints a JSON list of what is wrong.

It is no part of the package mwaa, which knows no Airflow: proof.py starts it with the interpreter of an environment
that has what MWAA has.
"""

import importlib
import json
import os
import pkgutil
import sys
import traceback
from pathlib import Path
from warnings import simplefilter as warnings_filter

PLUGIN = "pinterest_pipeline"
DAG_IDS = {"pinterest_msk_ingestion", "pinterest_daily_batch", "pinterest_kinesis_streams"}


def plugins() -> list[str]:
    """Every component loads the plug-in; one file of it, as the dotfile in plugins.zip says."""
    from airflow import plugins_manager

    loaded, errors = plugins_manager._get_plugins()
    wrong = [
        f"plugins/{name} does not load: {text.strip().splitlines()[-1]}" for name, text in errors.items()
    ]
    times = sum(each.name == PLUGIN for each in loaded)
    if times != 1:
        wrong.append(f"plugins.zip: the plug-in {PLUGIN} is loaded {times} times, not once")
    folder = Path(os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"])
    strangers = sorted(
        str(Path(str(module.__file__)).relative_to(folder))
        for name, module in list(sys.modules.items())
        if module.__dict__.get("__file__")
        and Path(str(module.__file__)).is_relative_to(folder)
        and name != "pinterest_plugin"
        and not name.startswith(PLUGIN)
    )
    if strangers:
        ignores = (folder / ".airflowignore").is_file()
        cause = "its .airflowignore does not name them" if ignores else "it lacks .airflowignore"
        wrong.append(
            f"plugins.zip: Airflow runs {len(strangers)} modules as plug-ins, {strangers[0]} the first: {cause}"
        )
    return wrong


def web_server() -> list[str]:
    """The web server shows the page, with or without requirements.txt."""
    wrong = plugins()
    if wrong:
        return wrong
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.testclient import TestClient

    app = sys.modules["pinterest_plugin"].PinterestPlugin.fastapi_apps[0]["app"]
    refused = TestClient(app).get("/").status_code
    if refused not in {401, 403}:
        wrong.append(f"the page answers {refused} to somebody who is not logged in")
    app.app.dependency_overrides[get_user] = lambda: None
    page = TestClient(app).get("/")
    if "html" not in page.headers.get("content-type", ""):
        wrong.append(f"the page answers {page.status_code} {page.text[:200]}")
    missing = [name for name in os.environ["REQUIREMENTS"].split(",") if not installed(name)]
    wrong += [f"the page does not say that {name} is missing" for name in missing if name not in page.text]
    return wrong


def installed(distribution: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True


def dag_processor() -> list[str]:
    """DAGs are parsed without warnings, and without looking up a connection or a Variable."""
    wrong = plugins()
    sys.path.append(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    from airflow.dag_processing.dagbag import DagBag

    Path(os.environ["ASKED_FOR"]).write_text("")
    warnings_filter("default")  # Python hides what is deprecated from all but the main program
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    for path, error in bag.import_errors.items():
        wrong.append(f"dags/{Path(path).name} does not parse: {error.strip().splitlines()[-1]}")
    for path, warnings in bag.captured_warnings.items():
        # What others owe to their own dependencies is not for us to mend.
        ours = [text for text in warnings if is_ours(text) or "DeprecationWarning" not in text]
        wrong += [f"dags/{Path(path).name} warns: {text}" for text in ours]
    if set(bag.dag_ids) != DAG_IDS and not bag.import_errors:
        wrong.append(f"dags/ has the DAGs {sorted(bag.dag_ids)}, not {sorted(DAG_IDS)}")
    asked = dict.fromkeys(Path(os.environ["ASKED_FOR"]).read_text().splitlines())
    wrong += [f"a DAG reads the {line} while it is parsed" for line in asked]
    return wrong


def is_ours(place: str) -> bool:
    """Whether a path, or a text that begins with one, lies in the staged folders."""
    return place.startswith((
        os.environ["AIRFLOW__CORE__DAGS_FOLDER"],
        os.environ["AIRFLOW__CORE__PLUGINS_FOLDER"],
    ))


def triggerer() -> list[str]:
    """The triggerer has plug-ins, but no DAG folder and so no include/."""
    return plugins() + imports(f"{PLUGIN}.triggers")


def worker() -> list[str]:
    """A worker imports everything."""
    sys.path.append(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    return plugins() + imports(PLUGIN) + imports("include.emulation")


def imports(package: str) -> list[str]:
    """Import a package and everything in it."""
    names = [package]
    wrong: list[str] = []
    while names:
        name = names.pop()
        try:
            module = importlib.import_module(name)
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            wrong.append(f"{name} does not import: {error!r} ({Path(place.filename).name}:{place.lineno})")
            continue
        names += [each.name for each in pkgutil.iter_modules(getattr(module, "__path__", []), f"{name}.")]
    return wrong


COMPONENTS = {
    "web-server": web_server,
    "dag-processor": dag_processor,
    "triggerer": triggerer,
    "worker": worker,
}

if __name__ == "__main__":
    found = COMPONENTS[sys.argv[1]]()
    print("\n" + json.dumps(found))
