"""The three DAGs triggered from their forms in Airflow's interface, in a browser, as a person does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from playwright.sync_api import Page, expect

from local.stack.airflow_api import AirflowApi
from local.stack.errors import StackError
from tests.stack.forms import REQUIRED, TriggerForm

pytestmark = pytest.mark.timeout(1800)

DAG_IDS = ("pinterest_daily_batch", "pinterest_kinesis_streams", "pinterest_msk_ingestion")
each_dag = pytest.mark.parametrize("dag_id", DAG_IDS)

TRIES = 5
BUSY = 500
"""What Airflow answers when its database was locked for a minute, as runs go on meanwhile."""
Schema = dict[str, Any]
Params = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def params(airflow: AirflowApi) -> dict[str, Params]:
    """DAG -> its parameters as the API tells them to the form: name -> value and schema."""
    return {dag_id: airflow.call("GET", f"/dags/{dag_id}/details")["params"] for dag_id in DAG_IDS}


@pytest.fixture
def form(airflow: AirflowApi, page: Page, dag_id: str) -> TriggerForm:
    """The DAG's form with the defaults."""
    form = TriggerForm(page, airflow.stack.url("airflow"), dag_id)
    form.open()
    return form


@pytest.fixture(scope="module")
def runs() -> dict[str, dict[str, Any]]:
    """DAG -> the run that was triggered from its form."""
    return {}


@each_dag
def test_a_form_is_sent_as_it_opens(
    form: TriggerForm, dag_id: str, params: dict[str, Params], runs: dict[str, dict[str, Any]]
) -> None:
    expect(form.submit).to_be_enabled()
    expect(form.red).to_have_count(0)
    status, run = form.send()
    assert status == 200, run
    assert run["conf"] == {name: param["value"] for name, param in params[dag_id].items()}
    runs[dag_id] = run


def is_nullable(schema: Schema) -> bool:
    return "null" in schema["type"] or None in schema.get("enum", ())


def outside(schema: Schema) -> Iterator[Any]:
    """Values that the schema of a parameter refuses and that its field takes; None is the emptied field."""
    if schema["type"] != "boolean" and not is_nullable(schema):
        yield None
    bounds = {name: value for part in [schema, *schema.get("allOf", ())] for name, value in part.items()}
    steps = {"minimum": -1, "exclusiveMinimum": 0, "maximum": 1, "exclusiveMaximum": 0}
    yield from (bounds[name] + step for name, step in steps.items() if name in bounds)
    if "integer" in schema["type"]:
        yield 1.5


def what_is_wrong(schema: Schema, value: Any) -> str:
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate(value, schema)
    return refused.value.message


def refusal(airflow: AirflowApi, dag_id: str, conf: Params) -> str:
    """What the API says to a run with these parameters."""
    for _ in range(TRIES):
        with pytest.raises(StackError) as refused:
            airflow.call("POST", f"/dags/{dag_id}/dagRuns", json={"conf": conf, "logical_date": None})
        if "(400)" in str(refused.value):
            break
    return str(refused.value)


# While those runs go on: nothing here starts another.
@each_dag
def test_what_is_outside_a_parameters_bounds_is_refused(
    form: TriggerForm, airflow: AirflowApi, dag_id: str, params: dict[str, Params]
) -> None:
    for name, param in params[dag_id].items():
        schema = param["schema"]
        for value in outside(schema):
            told = f"Invalid input for param {name}: {what_is_wrong(schema, value)}"
            assert told in refusal(airflow, dag_id, {name: value})
            form.enter(name, schema, value)
            if value is None:
                expect(form.submit).to_be_disabled()
                expect(form.errors).to_have_text([REQUIRED])
            else:
                sent = (form.send()[0] for _ in range(TRIES))
                assert next(status for status in sent if status != BUSY) == 400, (name, value)
                expect(form.refusal).to_contain_text(told)
            form.enter(name, schema, param["value"])
            expect(form.red).to_have_count(0)


@each_dag
def test_a_run_can_be_triggered_again_with_its_parameters(
    airflow: AirflowApi, page: Page, dag_id: str, params: dict[str, Params], runs: dict[str, dict[str, Any]]
) -> None:
    form = TriggerForm(page, airflow.stack.url("airflow"), dag_id)
    form.open_again(runs[dag_id]["dag_run_id"])
    expect(form.submit).to_be_enabled()
    expect(form.red).to_have_count(0)
    for name in params[dag_id]:
        expect(form.field(name)).to_have_count(1)


@each_dag
def test_a_run_from_the_form_succeeds(
    airflow: AirflowApi, dag_id: str, runs: dict[str, dict[str, Any]]
) -> None:
    run_id = runs[dag_id]["dag_run_id"]
    state = airflow.wait(dag_id, run_id, lambda _: None)
    assert state == "success", airflow.failure(dag_id, run_id)
