from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinterest_pipeline.templates import LONGEST_KEY, run_id_of, run_key

AIRFLOWS_OWN = "".join(map(chr, range(33, 127)))
RUN_IDS = st.one_of(
    st.text("ab:+-=~._3A", max_size=12),
    st.text(AIRFLOWS_OWN, max_size=250),
    st.text(max_size=250),
)


@pytest.mark.parametrize(
    ("run_id", "key"),
    [
        ("r-1", "r-1"),
        ("r:1", "r=3A1"),
        ("r+1", "r=2B1"),
        ("r~1", "r=7E1"),
        ("r=3A1", "r=3D3A1"),
        ("manual__2026-01-01T00:00:00.5+02:00", "manual__2026-01-01T00=3A00=3A00.5=2B02=3A00"),
        ("manual__2026-01-01T00:00:00.5-02:00", "manual__2026-01-01T00=3A00=3A00.5-02=3A00"),
        ("../x", "..=2Fx"),
        ("a/b", "a=2Fb"),
        ("{{job.run_id}}", "=7B=7Bjob.run_id=7D=7D"),
        ("r\n", "r=0A"),
        ("lauf-ü", "lauf-=C3=BC"),
        ("x" * LONGEST_KEY, "x" * LONGEST_KEY),
        (
            "x" * (LONGEST_KEY + 1),
            "x" * (LONGEST_KEY - 66) + "==0ec9eb33e74510bcdd1f2ea55206e82f21649c5c2becbf2b433eb475b34c01bd",
        ),
    ],
)
def test_the_key_of_a_run(run_id: str, key: str) -> None:
    assert run_key(run_id) == key


def test_long_runs_of_one_beginning_have_keys_of_their_own() -> None:
    run_ids = [f"{'r:' * 100}{end}" for end in ("1", "2", "-1", "+1", "")]
    assert len({run_key(run_id) for run_id in run_ids}) == len(run_ids)


@given(RUN_IDS)
def test_a_key_is_a_name_everywhere_and_is_read_back(run_id: str) -> None:
    """In an object's key, a file's name, a widget, a Delta partition, an SQL literal and a URL."""
    key = run_key(run_id)
    assert re.fullmatch(r"(?:[A-Za-z0-9_.-]|=[0-9A-F]{2})*(?:==[0-9a-f]{64})?", key)
    assert len(key) <= LONGEST_KEY
    assert len(f"run_id={key.replace('=', '%3D')}") <= 255
    assert run_id_of(key) == (None if "==" in key else run_id)


def test_what_is_no_key_names_no_run() -> None:
    assert run_id_of("=FF") is None
    assert run_id_of("") == ""


@given(st.lists(RUN_IDS, max_size=8, unique=True))
def test_no_two_runs_have_one_key(run_ids: list[str]) -> None:
    assert len({run_key(run_id) for run_id in run_ids}) == len(run_ids)


def test_no_two_short_runs_have_one_key() -> None:
    alphabet = ":+-=~._3ADB/%"
    run_ids = [
        "".join(letters) for size in (1, 2, 3, 4) for letters in itertools.product(alphabet, repeat=size)
    ]
    assert len({run_key(run_id) for run_id in run_ids}) == len(run_ids)
