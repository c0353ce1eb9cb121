"""Models by aspect and name, also those of other packages.

Spec: specs/simulation-world.md#plug-ins.
"""

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

from node.simulator.scenario import Scenario
from node.simulator.simulation import Simulation
from node.simulator.world import models
from node.simulator.world.latency import Regions
from node.simulator.world.models import add_model, aspects, catalogue, find, names, parameters
from node.simulator.world.quantities import Meaning
from protocol.values.errors import InvalidRequest

PLUGIN = Path(__file__).parents[4] / "scripts/lab_plugin"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the example of a plug-in visible as if it were installed."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["mutirao.simulate"]
    install(tmp_path, monkeypatch, [f"{name} = {value}" for name, value in points.items()])
    monkeypatch.syspath_prepend(PLUGIN)


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, points: list[str]) -> None:
    info = folder / "mutirao_islands-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mutirao-islands\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[mutirao.simulate]", *points]))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "islands", raising=False)


def test_each_aspect_has_a_default_that_needs_nothing() -> None:
    for aspect in aspects():
        assert find(aspect, names(aspect)[0])()


def test_parameters_are_the_annotated_fields() -> None:
    assert list(parameters(Regions)) == ["spread"]


def test_the_catalogue_says_what_each_model_is_and_takes() -> None:
    for row in catalogue():
        assert row["text"], row["model"]
        assert all(each["text"] for each in row["parameters"])
    assert ("latency", "regions") in {(row["aspect"], row["model"]) for row in catalogue()}


def test_an_unknown_model_is_refused_with_the_nearest() -> None:
    with pytest.raises(InvalidRequest, match=r"'wiebull' \(did you mean 'weibull'\?\); there are"):
        find("churn", "wiebull")


@pytest.mark.usefixtures("plugin")
def test_models_of_another_package_are_used_like_ours() -> None:
    assert "islands" in names("latency")
    values = {"nodes": 40, "latency.model": "islands", "latency.islands": 2, "horizon": "30s"}
    scenario = Scenario.of({**values, "adversaries.sleepy.share_percent": 50})
    links = scenario.world.latency.links(40, 1)
    assert set(links.ticks(np.zeros(39, np.int64), np.arange(1, 40)).tolist()) == {20, 1200}
    simulation = Simulation(scenario.world, "flow", 1)
    simulation.run(30_000)
    asleep = simulation.population.adversaries
    assert len(asleep) == 15
    assert simulation.network.sent["BidCommit"] > 0
    assert not any(
        simulation.network.nodes[number].core.core.provider.biddings for number in asleep
        if number in simulation.network.nodes
    )  # fmt: skip


def test_a_plug_in_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken_model.py"
    broken.write_text("1 / 0")
    points = ["churn.broken = broken_model:Model", "churn.value = math:pi"]
    install(tmp_path, monkeypatch, points)
    with pytest.raises(InvalidRequest, match="'broken' cannot be imported: division by zero"):
        find("churn", "broken")
    with pytest.raises(InvalidRequest, match="'value' is not a class"):
        find("churn", "value")


def test_a_process_adds_models_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "_ADDED", {})

    @dataclass(frozen=True, slots=True)
    class Far(Regions):
        """All are far from each other."""

        more_ms: Annotated[float, Meaning("how far", 1, 9)] = 2.0

    add_model("latency", "far", Regions)
    add_model("latency", "far", Far)  # A cell of a notebook runs again.
    assert names("latency")[-1] == "far"
    scenario = Scenario.of({"latency.model": "far", "latency.more_ms": 3, "nodes": 50})
    assert scenario.world.latency == Far(more_ms=3.0)
    assert ("latency", "far") in {(row["aspect"], row["model"]) for row in catalogue()}
    with pytest.raises(InvalidRequest, match="9 or less"):
        Scenario.of({"latency.model": "far", "latency.more_ms": 10})


def test_what_is_ours_is_not_replaced_and_an_aspect_must_exist() -> None:
    with pytest.raises(InvalidRequest, match="there is a model 'regions' of latency already"):
        add_model("latency", "regions", Regions)
    with pytest.raises(InvalidRequest, match=r"no aspect 'latncy' \(did you mean 'latency'\?\)"):
        add_model("latncy", "far", Regions)
