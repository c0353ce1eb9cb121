"""Sizes and durations as people write them. Spec: specs/rpc.md#quantities."""

import pytest

from protocol.values.quantities import mib_of, ms_of, us_of


@pytest.mark.parametrize(
    "text,mib",
    [("512M", 512), ("2G", 2048), ("1.5GiB", 1536), ("512", 512), ("1t", 2**20), ("3 GB", 3072)],
)
def test_sizes(text, mib):
    assert mib_of(text) == mib


@pytest.mark.parametrize(
    "text,ms",
    [("90s", 90_000), ("10m", 600_000), ("1h", 3_600_000), ("2", 2000), ("1.5h", 5_400_000),
     ("250ms", 250), ("1d", 86_400_000)],
)  # fmt: skip
def test_durations(text, ms):
    assert ms_of(text) == ms


@pytest.mark.parametrize("text", ["", "G", "-1G", "1X", "1.0001M", "1e3", "1 2", "1K", "٣G"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="is not a"):
        mib_of(text)


@pytest.mark.parametrize("text", ["", "h", "-1s", "1H", "0.1ms", "1w"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="is not a"):
        ms_of(text)


@pytest.mark.parametrize(
    "text,us",
    [("20", 20_000), ("20ms", 20_000), ("1.5 ms", 1_500), ("500us", 500), ("0.1s", 100_000)],
)
def test_round_trips(text, us):
    assert us_of(text) == us


@pytest.mark.parametrize("text", ["", "20m", "far", "0.1us", "-5ms", "1h"])
def test_what_is_no_round_trip(text):
    with pytest.raises(ValueError, match="is not a"):
        us_of(text)
