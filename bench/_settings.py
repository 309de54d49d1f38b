"""What a measurement is told by environment variables."""

import os

from include.emulation.parameters import whole_number
from include.emulation.terminal import printable


def whole_numbers(name: str, default: str, least: int, most: int) -> list[int]:
    """Return the numbers of a variable, between commas.

    :raises SystemExit: it holds something else; with a sentence that names the bounds.
    """
    given = os.environ.get(name) or default
    try:
        numbers = [whole_number(text) for text in given.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(least <= number <= most for number in numbers):
        raise SystemExit(
            f"bench: {name}={printable(given, 60)}: whole numbers from {least:,} to {most:,}, with commas between"
        )
    return numbers


def one_number(name: str, default: str, least: int, most: int) -> int:
    """Return the first of the numbers of a variable."""
    return whole_numbers(name, default, least, most)[0]
