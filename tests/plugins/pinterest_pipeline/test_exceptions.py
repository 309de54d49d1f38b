from __future__ import annotations

from pinterest_pipeline.exceptions import RecordsFailed

GONE = "Stream streaming-pinterest-pin not found"


def failures(table: str, numbers: range, code: str, reason: str) -> list[dict[str, object]]:
    return [{"table": table, "number": number, "code": code, "reason": reason} for number in numbers]


def test_one_cause_of_many_failures_is_one_line() -> None:
    failed = failures("pin", range(100), "ResourceNotFoundException", GONE)
    assert str(RecordsFailed(1500, failed)) == (
        "1500 record(s) were not accepted:\n"
        f"pin 0, 1, 2 and 97 more: ResourceNotFoundException {GONE}\n"
        "… and 1400 more"
    )


def test_each_cause_is_named_in_the_order_of_its_first_failure() -> None:
    failed = [
        *failures("pin", range(7, 8), "400", "too large"),
        *failures("geo", range(3), "400", "too large"),
        *failures("pin", range(4), "500", "failed"),
        *failures("pin", range(9, 10), "400", "too large"),
    ]
    assert str(RecordsFailed(9, failed)) == (
        "9 record(s) were not accepted:\n"
        "pin 7, 9: 400 too large\n"
        "geo 0, 1, 2: 400 too large\n"
        "pin 0, 1, 2 and 1 more: 500 failed"
    )
