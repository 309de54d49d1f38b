from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import time_machine
from airflow.api_fastapi.core_api.security import get_user
from botocore.exceptions import EndpointConnectionError
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from pinterest_pipeline.page import missing
from pinterest_pipeline.page.app import create_app

COUNTS = {"read": 9, "clean": 6, "superseded": 2, "quarantined": 1, "by_reason": {"blank": 1}}
PIN = {**COUNTS, "unparsable_follower_counts": 3}
TABLES = {"pin": PIN, "geo": COUNTS, "user": COUNTS}
HOSTILE = '<script>alert("1")</script> & Côte d\'Ivoire'
PUBLISHED: dict[str, Any] = {
    "run_id": "manual__<b>1</b>",
    "generated_at": "2026-01-01T00:00:00Z",
    "ledger": {"run": TABLES, "total": TABLES},
    "quality": [
        {
            "expectation": "quarantined_share",
            "table": "pin",
            "observed": 0.098765,
            "at_most": 0.1,
            "detail": "<8> of 81",
        },
        {"expectation": "freshness", "table": "all", "observed": None, "at_most": 168.0, "detail": HOSTILE},
    ],
    "answers": {
        "q1": [{"country": HOSTILE, "category": "art", "category_count": 2}],
        "q2_counts": [{"post_year": 2018, "category": "art", "category_count": 1}],
        "q2_winners": [],
        "q3_per_country": [{"country": "Aruba", "poster_name": None, "follower_count": 5200}],
        "q3_top_country": [{"country": "Aruba", "follower_count": 5200}],
        "q4": [{"age_group": "+50", "category": "art", "category_count": 1}],
        "q5": [{"age_group": "18-24", "median_follower_count": 1.5}],
        "q6": [{"year_joined": 2016, "number_users_joined": 4}],
        "q7": [{"year_joined": 2016, "median_follower_count": 10}],
        "q8": [{"age_group": "18-24", "year_joined": 2016, "median_follower_count": 10}],
    },
}


def page(read: Callable[[], dict[str, Any] | None], user: bool = True) -> TestClient:
    app = create_app(read)
    if user:
        app.dependency_overrides[get_user] = lambda: object()
    return TestClient(app, raise_server_exceptions=True)


def raises(error: Exception) -> Callable[[], None]:
    def read() -> None:
        raise error

    return read


def cells(html: str, caption: str) -> list[list[str]]:
    """The rows of the first table after a text."""
    table = html[html.index(caption) :].split("</table>")[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    return [[unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json"])
def test_nobody_sees_anything_without_a_login(path: str) -> None:
    reply = page(lambda: PUBLISHED, user=False).get(path)
    assert reply.status_code in ({401, 403} if path == "/" else {404})
    assert "manual__" not in reply.text


def test_every_route_asks_for_a_user() -> None:
    routes = create_app(lambda: None).routes
    assert [route.path for route in routes if isinstance(route, APIRoute)] == ["/"]
    for route in routes:
        assert isinstance(route, APIRoute)
        assert get_user in [dependency.call for dependency in route.dependant.dependencies]


def test_ledger_and_answers() -> None:
    reply = page(lambda: PUBLISHED).get("/")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    head, pin, geo, _ = cells(reply.text, "All runs")
    assert dict(zip(head, pin, strict=True)) == {
        "table": "pin",
        "read": "9",
        "clean": "6",
        "superseded": "2",
        "quarantined": "1",
        "why quarantined": "1 blank",
        "unparsable follower counts": "3",
    }
    assert geo[-1] == "–"
    assert cells(reply.text, "3 · Most followed user") == [
        ["country", "poster_name", "follower_count"],
        ["Aruba", "", "5200"],
    ]
    assert "2 · Most popular category in each year: no rows" in reply.text
    titles = re.findall(r"<summary>(\d) ·", reply.text)
    assert titles == ["1", "2", "2", "3", "3", "4", "5", "6", "7", "8"]


def test_no_text_of_the_data_is_obeyed_or_breaks_the_page() -> None:
    """Nor one that UTF-8 lacks, that turns the direction of text, or that is a megabyte long."""
    published = copy.deepcopy(PUBLISHED)
    published["answers"]["q1"] = [{"\u202e": "\ud83d\x1b[2J\u202e\x00"}, {"\u202e": "x" * 1_000_000}]
    reply = page(lambda: published).get("/")
    assert reply.status_code == 200
    assert cells(reply.text, "Most popular category in each country") == [
        [r"\u202e"],
        [r"\ud83d\x1b[2J\u202e\x00"],
        ["x" * 1_999 + "…"],
    ]


def test_values_are_escaped() -> None:
    text = page(lambda: PUBLISHED).get("/").text
    assert "<script" not in text and "<b>1" not in text
    assert cells(text, "1 · Most popular")[1][0] == HOSTILE
    assert "default-src 'none'" in page(lambda: PUBLISHED).get("/").headers["content-security-policy"]


def test_before_anything_is_published_the_page_says_what_is_missing() -> None:
    reply = page(lambda: None).get("/")
    assert reply.status_code == 200
    assert "No answers have been published yet" in reply.text
    assert "pinterest_daily_batch" in reply.text


def test_a_bucket_that_does_not_answer_is_told() -> None:
    reply = page(raises(EndpointConnectionError(endpoint_url="http://s3"))).get("/")
    assert reply.status_code == 502
    assert "The bucket does not answer" in reply.text
    assert "Traceback" not in reply.text


def test_missing_settings_are_told() -> None:
    app = create_app()
    app.dependency_overrides[get_user] = lambda: object()
    reply = TestClient(app).get("/")
    assert reply.status_code == 500
    assert "[pinterest] bucket: not set" in reply.text


def broken(*path: str) -> dict[str, Any]:
    published = copy.deepcopy(PUBLISHED)
    inner = published
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return published


@pytest.mark.parametrize(
    "published",
    [
        broken("answers", "q7"),
        broken("ledger", "total"),
        broken("ledger", "run", "geo", "read"),
        {"run_id": 1},
    ],
)
def test_what_is_no_set_of_answers_is_told(published: dict[str, Any]) -> None:
    reply = page(lambda: published).get("/")
    assert reply.status_code == 502
    assert "not what it should be" in reply.text


def test_the_bucket_is_read(s3: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__PINTEREST__BUCKET", bucket)
    app = create_app()
    app.dependency_overrides[get_user] = lambda: object()
    assert "No answers have been published yet" in TestClient(app).get("/").text
    s3.put_object(Bucket=bucket, Key="answers/latest.json", Body=json.dumps(PUBLISHED))
    assert "Aruba" in TestClient(app).get("/").text
    s3.put_object(Bucket=bucket, Key="answers/latest.json", Body=b"{")
    assert TestClient(app).get("/").status_code == 502


def test_what_is_not_installed_is_said_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing, "REQUIREMENTS", ("fastapi", "surely-not-installed"))
    for read in (lambda: PUBLISHED, lambda: None, raises(ValueError("no JSON"))):
        text = page(read).get("/").text
        assert "Not installed in this web server: surely-not-installed." in text


def test_the_requirements_that_the_page_looks_for_are_those_of_mwaa() -> None:
    lines = (Path(__file__).parents[4] / "requirements.txt").read_text("utf-8").splitlines()
    assert [re.split("[=<>]", line)[0] for line in lines if not line.startswith("#")] == list(
        missing.REQUIREMENTS
    )


def test_the_gate_is_shown_where_there_was_one() -> None:
    rows = cells(page(lambda: PUBLISHED).get("/").text, "All were met")
    assert rows == [
        ["expectation", "table", "found", "at most", "why"],
        ["quarantined share", "pin", "0.0988", "0.1", "<8> of 81"],
        ["freshness", "all", "–", "168.0", HOSTILE],
    ]
    older = {name: value for name, value in PUBLISHED.items() if name != "quality"}
    assert "Quality gate" not in page(lambda: older).get("/").text


@pytest.mark.parametrize(
    ("now", "note"),
    [
        ("2026-01-02T01:59:59+00:00", ""),
        (
            "2026-01-02T02:00:00+00:00",
            "These answers are 26 hours old. pinterest_daily_batch publishes new ones",
        ),
        ("2026-01-31T00:00:00+00:00", "These answers are 720 hours old."),
    ],
)
def test_answers_that_no_batch_has_followed_are_called_old(now: str, note: str) -> None:
    """The page would show them for ever, and nobody else sees that the batch does not run."""
    with time_machine.travel(now, tick=False):
        text = page(lambda: PUBLISHED).get("/").text
    assert ("hours old" in text) == bool(note)
    assert note in text
