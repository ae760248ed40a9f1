"""A row judges itself by its value or by its ratio, and a number is shown with what it deserves of digits."""

import pytest

from bench.report import Row, Target, Yardstick, at_least, at_most, format_value


def row(value: float, target: Target | None, yardstick: float | None = None) -> Row:
    beside = None if yardstick is None else Yardstick("other", yardstick)
    return Row(name="row", value=value, unit="ms", quality="", yardstick=beside, target=target)


def test_value_is_held_to_its_target() -> None:
    assert row(1.0, at_most(1.0)).passed is True
    assert row(1.1, at_most(1.0)).passed is False
    assert row(0.96, at_least(0.96)).passed is True
    assert row(0.95, at_least(0.96)).passed is False
    assert row(5.0, None).passed is None


def test_ratio_is_held_to_its_target() -> None:
    twice = Target(">=", 2.0, of="ratio")
    assert row(0.5, twice, 0.25).passed is True
    assert row(0.5, twice, 0.3).passed is False
    assert row(0.5, None, 0.25).ratio == 2.0


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [(1234.5, "/s", "1,234 /s"), (12.34, "ms", "12.3 ms"), (0.9712, "", "0.971"), (0.00185, "ms", "0.0019 ms")],
)
def test_numbers_are_shown_with_few_digits(value: float, unit: str, shown: str) -> None:
    assert format_value(value, unit) == shown
