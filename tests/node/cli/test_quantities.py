"""Sizes, durations and prices as the values of options. Spec: specs/rpc.md#quantities."""

import click
import pytest

from node.cli.quantities import Duration, HourlyPrice, Names, RoundTrip, Size


def test_sizes_and_durations():
    assert Size().convert("1.5GiB", None, None) == 1536
    assert Duration().convert("10m", None, None) == 600_000
    for option in (Size(), Duration()):
        with pytest.raises(click.BadParameter, match="'1X' is not a"):
            option.convert("1X", None, None)


def test_round_trips():
    assert [RoundTrip().convert(text, None, None) for text in ("20ms", "20", "500us", "0.5ms")] == [
        20_000, 20_000, 500, 500,
    ]  # fmt: skip
    for text in ("20m", "near", "-1ms", "0.5us"):
        with pytest.raises(click.BadParameter):
            RoundTrip().convert(text, None, None)


def test_names():
    assert Names().convert("a.org, *.b.org,", None, None) == ("a.org", "*.b.org")
    with pytest.raises(click.BadParameter, match="give a name"):
        Names().convert(" , ", None, None)


def test_prices():
    assert HourlyPrice().convert("0.50", None, None) == "0.50"
    for text in ("", "free", "-1", "nan", "1e99"):
        with pytest.raises(click.BadParameter):
            HourlyPrice().convert(text, None, None)
