"""What nodes lend: kinds by their shares, prices within their bounds.

Spec: specs/simulation-world.md#supply.
"""

import numpy as np
import pytest

from node.simulator.world.supply import MIX, Equal, Mix, Supply
from protocol.values.units import GIB, rate_of_hourly

NODES = 20_000


@pytest.mark.parametrize("model", [Mix(), Equal()], ids=repr)
def test_a_seed_repeats_its_nodes_and_more_nodes_change_no_other(model: Supply) -> None:
    for drawn in (model.kind_of, model.price_percent):
        assert drawn(500, 1).tolist() == drawn(NODES, 1).tolist()[:500]
    assert model.price_percent(500, 1).tolist() != model.price_percent(500, 2).tolist()


def test_kinds_come_by_their_shares() -> None:
    assert sum(kind.share for kind in MIX) == 1_000
    counts = np.bincount(Mix().kind_of(NODES, 3), minlength=len(MIX))
    for count, kind in zip(counts.tolist(), Mix().kinds, strict=True):
        assert abs(count * 1_000 / NODES - kind.share) < 12


@pytest.mark.parametrize(
    "model, least, most", [(Mix(), 60, 160), (Mix(80, 90), 80, 90), (Equal(), 50, 150)]
)
def test_prices_fill_their_bounds(model: Supply, least: int, most: int) -> None:
    percent = model.price_percent(NODES, 3)
    assert (percent.min(), percent.max()) == (least, most)
    assert abs(percent.mean() - (least + most) / 2) < 1


def test_equal_nodes_are_of_one_kind() -> None:
    model = Equal(cpus=6, memory_gib=9, cpu_hour="0.02", spread_percent=0)
    (kind,) = model.kinds
    assert (kind.cpus, kind.memory_mib, kind.gpus) == (6, 9 * GIB, 0)
    assert (kind.cpu_rate, kind.gpu_rate) == (rate_of_hourly("0.02"), 0)
    assert not model.kind_of(50, 1).any()
    assert (model.price_percent(50, 1) == 100).all()


def test_a_kind_with_gpus_has_a_price_for_them() -> None:
    for kind in MIX:
        assert bool(kind.gpus) == bool(kind.gpu_class) == bool(kind.vram_gib) == (kind.gpu_rate > 0)
