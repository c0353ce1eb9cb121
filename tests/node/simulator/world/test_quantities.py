"""The units in which models are described: every parameter of every model says what it means.

Spec: specs/simulation.md#scenario.
"""

import dataclasses
from typing import get_type_hints

import pytest

from node.simulator.world import churn, demand, latency, supply
from node.simulator.world.quantities import Meaning

MODELS = [
    churn.Steady, churn.Weibull, churn.Trace, demand.Poisson, demand.Diurnal, demand.Burst,
    latency.Regions, latency.Uniform, latency.Matrix, supply.Mix, supply.Equal,
]  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_a_parameter_says_what_it_means_and_its_default_is_allowed(model: type) -> None:
    hints = get_type_hints(model, include_extras=True)
    for field in dataclasses.fields(model):
        (about,) = hints[field.name].__metadata__
        assert isinstance(about, Meaning)
        assert about.text
        if isinstance(field.default, int | float):
            assert about.least <= field.default
            assert about.most is None or field.default <= about.most
