"""A GPU in trouble is not lent, and comes back only when nothing has been wrong for long.

Spec: specs/capability.md#gpu-trouble.
"""

from node.hardware.gpu import GpuReading
from node.hardware.gpu_health import HOT_MS, RECOVERED_MS, GpuHealth, after_reading, troubles_of


def after(*timed: tuple[int, GpuReading]) -> GpuHealth:
    health = GpuHealth()
    for now_ms, reading in timed:
        health = after_reading(health, reading, now_ms)
    return health


def reading(temperature_c: int | None = 50, errors: int | None = 3, lost: str = "") -> GpuReading:
    return GpuReading(
        "GPU-1", temperature_c=temperature_c, slowdown_c=90, ecc_errors=errors, lost=lost
    )


def test_heat_counts_only_if_it_lasts() -> None:
    assert not after((0, reading(95))).trouble
    assert not after((0, reading(95)), (HOT_MS - 1, reading(90))).trouble
    assert not after((0, reading(95)), (9, reading(89)), (HOT_MS, reading(95))).trouble
    hot = after((0, reading(95)), (HOT_MS, reading(90)))
    assert "slowed itself down by heat for 60 s" in hot.trouble
    brake = GpuReading("GPU-1", heat_brake=True)  # Its driver tells no temperature.
    assert after((0, brake), (HOT_MS, brake)).trouble == hot.trouble


def test_trouble_stays_until_nothing_was_wrong_for_long() -> None:
    past = [(0, reading(95)), (HOT_MS, reading(95)), (HOT_MS + 1, reading(80))]
    assert after(*past).trouble
    assert after(*past, (HOT_MS + RECOVERED_MS, reading(80))).trouble
    assert not after(*past, (HOT_MS + 1 + RECOVERED_MS, reading(80))).trouble
    again = [(HOT_MS + 5, reading(91)), (HOT_MS + 6, reading(80))]
    assert after(*past, *again, (HOT_MS + 1 + RECOVERED_MS, reading(80))).trouble


def test_new_memory_errors_count_and_old_ones_do_not() -> None:
    assert not after((0, reading(errors=3)), (1, reading(errors=3))).trouble
    damaged = after((0, reading(errors=3)), (1, reading(errors=4)), (10**9, reading(errors=4)))
    assert damaged.trouble.startswith("4 memory errors could not be corrected")
    later = 10**9 + 1
    mended = [(later, reading(errors=0)), (later + RECOVERED_MS, reading(errors=0))]
    past = [(0, reading(errors=3)), (1, reading(errors=4))]
    assert not after(*past, *mended).trouble


def test_a_lost_gpu_says_why_at_once_and_is_given_up_later() -> None:
    gone = reading(None, None, "it is gone")
    silent = after((0, reading()), (1, gone))
    assert (silent.trouble, silent.is_lost, silent.ecc_errors) == ("it is gone", False, 3)
    lost = after_reading(silent, gone, 2)
    assert (lost.trouble, lost.is_lost) == ("it is gone", True)
    back = after_reading(lost, reading(), 2)
    assert (back.trouble, back.is_lost) == ("it is gone", False)  # It may be lost again at once.


def test_a_gpu_that_reports_nothing_is_in_no_trouble() -> None:
    silent = after((0, GpuReading("GPU-1")), (HOT_MS, GpuReading("GPU-1")))
    assert troubles_of([("GPU-1", silent)]) == {}
    assert troubles_of([("GPU-1", after((0, reading(lost="gone"))))]) == {"GPU-1": "gone"}
