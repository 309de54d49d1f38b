"""Numbers as a person gives them."""

import pytest

from include.emulation.parameters import whole_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("-0", 0),
        ("007", 7),
        (" 12 ", 12),
        ("-5", -5),
        ("9" * 30, 10**30 - 1),
        ("9" * 31, 10**30),
        ("9" * 5000, 10**30),
        ("-" + "9" * 5000, -(10**30)),
        ("0" * 5000 + "1", 1),
    ],
)
def test_decimal_digits_are_a_number(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "-",
        "+5",
        "1e3",
        "1.0",
        "1_000",
        "1,000",
        "0x10",
        "٣",
        "३",
        "²",
        "5\n",
        "\t5",
        "--help",
        "NaN",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a whole number"):
        whole_number(text)
