"""The quality gate, by its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pinterest_lake.expectations import FEWEST, Facts, QualityError, Thresholds, check, judge
from pinterest_lake.lake import SettingsError
from pinterest_lake.ledger import Counts
from tests.include.notebooks.conftest import FakeDbutils

GOOD = Counts(read=1000, clean=900, superseded=100)
FACTS = {table: Facts(run=GOOD, total=GOOD, age_hours=1.0) for table in ("pin", "geo", "user")}


def failed(changes: dict[str, Facts], limits: Thresholds = Thresholds()) -> list[tuple[str, str]]:  # noqa: B008
    results = judge({**FACTS, **changes}, limits)
    return [(result.expectation, result.table) for result in results if not result.passed]


def test_good_tables_pass() -> None:
    assert failed({}) == []
    assert failed({table: Facts(run=Counts(), total=Counts()) for table in FACTS}) == []


@pytest.mark.parametrize(
    ("expectation", "table", "passes", "fails"),
    [
        ("ledger_balance", "geo", {}, {"imbalance": "one is lost"}),
        (
            "quarantined_share",
            "user",
            {"total": Counts(read=1000, clean=900, quarantined=100)},
            {"total": Counts(read=1000, clean=899, quarantined=101)},
        ),
        (
            "quarantined_share_of_run",
            "pin",
            {"run": Counts(read=100, clean=50, quarantined=50)},
            {"run": Counts(read=100, clean=49, quarantined=51)},
        ),
        (
            "unparsable_share",
            "pin",
            {"total": Counts(read=1000, clean=1000, unparsable=100)},
            {"total": Counts(read=1000, clean=1000, unparsable=101)},
        ),
        ("unmatched_share", "user", {"unmatched": 225}, {"unmatched": 226}),
    ],
)
def test_trouble_passes_up_to_its_threshold(
    expectation: str, table: str, passes: dict[str, Any], fails: dict[str, Any]
) -> None:
    assert failed({table: replace(FACTS[table], **passes)}) == []
    assert failed({table: replace(FACTS[table], **fails)}) == [(expectation, table)]


def test_what_comes_no_more_is_not_fresh() -> None:
    old = {table: replace(fact, age_hours=169.0) for table, fact in FACTS.items()}
    limits = Thresholds(max_age_hours=168)
    assert failed(old, limits) == [("freshness", "all")]
    assert failed({**old, "geo": replace(old["geo"], age_hours=167.0)}, limits) == []


@pytest.mark.parametrize(
    ("hours", "detail"),
    [
        (168.0, "hours since the newest row was taken in"),
        (168.5, "WARNING: more than 168 hours since the newest row was taken in"),
        (None, "no row was ever taken in"),
    ],
)
def test_without_a_limit_what_is_not_fresh_is_warned_of(hours: float | None, detail: str) -> None:
    facts = {table: replace(fact, age_hours=hours) for table, fact in FACTS.items()}
    (freshness,) = [each for each in judge(facts, Thresholds()) if each.expectation == "freshness"]
    assert (freshness.passed, freshness.observed, freshness.at_most) == (True, hours, None)
    assert freshness.detail == detail
    observed = "-" if hours is None else f"{hours:.4g}"
    assert str(freshness) == f"passed freshness of all: {observed}, any ({detail})"


def test_few_records_are_not_judged_by_shares() -> None:
    few = Counts(read=FEWEST - 1, clean=1, quarantined=FEWEST - 2)
    assert failed({"geo": Facts(run=few, total=few)}) == []


def test_where_none_may_be_bad_one_of_few_is_too_many() -> None:
    few = Facts(run=Counts(), total=Counts(read=5, clean=4, quarantined=1))
    assert failed({"geo": few}, Thresholds(max_quarantined_share=0)) == [("quarantined_share", "geo")]


def test_a_run_that_empties_the_quarantine_passes() -> None:
    freed = replace(FACTS["pin"], run=Counts(read=200, clean=500, quarantined=-300))
    assert failed({"pin": freed}) == []


@pytest.mark.parametrize(
    ("text", "hours"), [("1.5", 1.5), ("168", 168.0), ("168.0", 168.0), ("1e-05", 0.00001), (" 0 ", 0.0)]
)
def test_thresholds_are_widgets(text: str, hours: float) -> None:
    assert Thresholds.from_widgets(FakeDbutils(max_age_hours=text)) == Thresholds(max_age_hours=hours)


def test_an_age_that_is_not_limited_is_an_empty_widget() -> None:
    assert Thresholds.from_widgets(FakeDbutils(max_age_hours=" ")).max_age_hours is None
    with pytest.raises(SettingsError, match="widget 'max_unmatched_share' is ''; it must be a number"):
        Thresholds.from_widgets(FakeDbutils(max_unmatched_share=""))


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "-inf", "1e400", "-0.1", "None"])
def test_a_threshold_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=f"widget 'max_age_hours' is '{text}'; it must be a number"):
        Thresholds.from_widgets(FakeDbutils(max_age_hours=text))


def test_a_failure_says_what_and_by_how_much() -> None:
    bad = {"geo": replace(FACTS["geo"], unmatched=300)}
    with pytest.raises(QualityError) as error:
        check(judge({**FACTS, **bad}, Thresholds()))
    assert str(error.value) == (
        "1 of 13 expectations are not met, so the last answers stay as they are: "
        "unmatched_share of geo: 0.3333, at most 0.25 (300 of 900)"
    )
