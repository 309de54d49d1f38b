"""What a measurement is told by its caller."""

from __future__ import annotations

import pytest

from bench.__main__ import main
from bench._settings import one_number, whole_numbers


@pytest.mark.parametrize(
    ("given", "numbers"), [("", [200, 1000]), ("5", [5]), ("1,2,100000", [1, 2, 100_000]), (" 7 , 8", [7, 8])]
)
def test_numbers_between_commas(monkeypatch: pytest.MonkeyPatch, given: str, numbers: list[int]) -> None:
    monkeypatch.setenv("BENCH_RATES", given)
    assert whole_numbers("BENCH_RATES", "200,1000", 1, 100_000) == numbers
    assert one_number("BENCH_RATES", "200,1000", 1, 100_000) == numbers[0]


@pytest.mark.parametrize("given", [",", "1,", "x", "0", "-1", "100001", "1e3", "٣", "9" * 5000, "\x1b[2J"])
def test_anything_else_is_refused_with_the_bounds(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("BENCH_RATES", given)
    with pytest.raises(SystemExit) as refused:
        whole_numbers("BENCH_RATES", "200,1000", 1, 100_000)
    message = str(refused.value)
    assert message.startswith("bench: BENCH_RATES=")
    assert message.endswith(": whole numbers from 1 to 100,000, with commas between")
    assert message.isprintable() and len(message) < 150


def test_a_measurement_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["\x1b[2J"]) == 2
    assert capsys.readouterr().err == "bench: there is no \\x1b[2J; there is batch, streams\n"
