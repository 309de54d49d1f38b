from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from pinterest_pipeline.exceptions import LedgerImbalance, ReportMissing
from pinterest_pipeline.ledger import streams_ledger, topics_ledger

SENT = {"drawn": 10, "missing": 3, "sent": 7, "acknowledged": 7, "failed": 0}
TOPICS = {"pin": "p.pin"}
STREAMS = {"pin": "s-pin"}


def counts(read: int, clean: int, superseded: int, quarantined: int) -> dict[str, Any]:
    return {
        "read": read,
        "clean": clean,
        "superseded": superseded,
        "quarantined": quarantined,
        "by_reason": {"blank": quarantined} if quarantined else {},
    }


def test_topics_that_balance() -> None:
    ledger = topics_ledger({"pin": SENT}, {"p.pin": {"acknowledged": 7, "landed": 7}}, TOPICS)
    assert ledger == {"pin": {"drawn": 10, "missing": 3, "acknowledged": 7, "landed": 7}}


@pytest.mark.parametrize(
    ("sent", "landed", "says"),
    [
        (SENT, 6, "topics, pin: 7 acknowledged, but 6 landed"),
        ({**SENT, "drawn": 11}, 7, "topics, pin: 11 drawn, but 3 missing + 7 sent"),
        ({**SENT, "failed": 1}, 7, "topics, pin: 7 sent, but 7 acknowledged + 1 failed"),
    ],
)
def test_topics_that_do_not_balance(sent: dict[str, int], landed: int, says: str) -> None:
    with pytest.raises(LedgerImbalance) as raised:
        topics_ledger({"pin": sent}, {"p.pin": {"landed": landed}}, TOPICS)
    assert says in str(raised.value)


def test_a_topic_that_landed_nothing_is_not_forgotten() -> None:
    with pytest.raises(LedgerImbalance, match="7 acknowledged, but 0 landed"):
        topics_ledger({"pin": SENT}, {}, TOPICS)


def test_streams_that_balance_count_this_run_and_all_runs() -> None:
    before = {"s-pin": counts(5, 4, 0, 1)}
    after = {"s-pin": counts(12, 9, 2, 1)}
    ledger = streams_ledger({"pin": SENT}, before, after, STREAMS)
    assert ledger["pin"] == {
        "drawn": 10,
        "missing": 3,
        "acknowledged": 7,
        "committed": 7,
        "clean": 5,
        "superseded": 2,
        "quarantined": 0,
        "by_reason": {},
        "total": {"read": 12, "clean": 9, "superseded": 2, "quarantined": 1, "by_reason": {"blank": 1}},
    }


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (counts(11, 9, 1, 1), "streams, pin: 7 acknowledged, but 6 committed"),
        (counts(12, 9, 1, 1), "12 read, but 9 clean + 1 superseded + 1 quarantined = 11"),
    ],
)
def test_streams_that_do_not_balance(after: dict[str, Any], says: str) -> None:
    with pytest.raises(LedgerImbalance) as raised:
        streams_ledger({"pin": SENT}, {"s-pin": counts(5, 4, 0, 1)}, {"s-pin": after}, STREAMS)
    assert says in str(raised.value)


def test_records_that_others_put_are_no_imbalance() -> None:
    ledger = streams_ledger({"pin": SENT}, {}, {"s-pin": counts(9, 9, 0, 0)}, STREAMS)
    assert ledger["pin"]["committed"] == 9


def test_without_a_report_there_is_nothing_to_reconcile() -> None:
    for ledger in (lambda: topics_ledger(None, {}, {}), lambda: streams_ledger(None, {}, {}, {})):
        with pytest.raises(ReportMissing, match="emulate has left no report") as missing:
            ledger()
        assert isinstance(missing.value, AirflowFailException), "a retry finds none, either"
