"""Scenarios: what a file may say, and what is said of a mistake.

Spec: specs/simulation.md#scenario.
"""

from pathlib import Path

import pytest

from node.simulator.scenario import Scenario
from node.simulator.world.adversaries import Liar, NonPayer
from node.simulator.world.churn import Weibull
from node.simulator.world.latency import Regions
from protocol.values.errors import InvalidRequest

TEXT = """
name = "two sizes"
nodes = 500
horizon = "5m"
repetitions = 2

[churn]
model = "weibull"
session = "30m"

[adversaries.liar]
share_percent = 20

[adversaries.non-payer]

[sweep]
nodes = [100, 200]
"churn.session" = ["10m", "1h"]
"""


def test_a_file_is_read() -> None:
    scenario = Scenario.parse(TEXT)
    assert scenario.settings.name == "two sizes"
    assert scenario.settings.horizon == 300_000
    assert scenario.world.nodes == 500
    assert scenario.world.churn == Weibull(session=1_800_000)
    assert scenario.world.latency == Regions()
    assert scenario.world.adversaries == (Liar(share_percent=20), NonPayer())


def test_a_sweep_has_a_point_for_each_combination() -> None:
    points = list(Scenario.parse(TEXT).points())
    found = [(point.world.nodes, point.world.churn.session) for point in points]
    assert found == [(100, 600_000), (100, 3_600_000), (200, 600_000), (200, 3_600_000)]
    assert not any(point.axes for point in points)
    assert len({point.digest for point in points}) == 4


def test_a_scenario_without_a_sweep_is_one_point() -> None:
    scenario = Scenario.parse("nodes = 20")
    assert [point.digest for point in scenario.points()] == [scenario.digest]


def test_the_seeds_of_repetitions_differ_and_are_the_same_at_each_point() -> None:
    one, *others = Scenario.parse(TEXT).points()
    seeds = [one.seed_of(number) for number in range(100)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert all([other.seed_of(number) for number in range(100)] == seeds for other in others)
    assert Scenario.parse("seed = 2").seed_of(0) != seeds[0]


def test_the_digest_ignores_what_decides_nothing() -> None:
    base = Scenario.parse("nodes = 20")
    assert Scenario.parse('name = "x"\nnodes = 20\nrepetitions = 5').digest == base.digest
    assert Scenario.parse("nodes = 21").digest != base.digest
    assert Scenario.parse("nodes = 20\nseed = 3").digest != base.digest


def test_an_object_says_the_same_as_a_file() -> None:
    values = {"nodes": 20, "churn.model": "weibull", "sweep.degree": [4, 6]}
    file = Scenario.parse('nodes = 20\n[churn]\nmodel = "weibull"\n[sweep]\ndegree = [4, 6]')
    assert Scenario.of(values).world == file.world
    assert [each.digest for each in Scenario.of(values).points()] == [
        each.digest for each in file.points()
    ]


def test_values_can_be_changed_and_are_swept_no_more() -> None:
    changed = Scenario.parse(TEXT).changed({"nodes": 50, "tier": "message"})
    assert changed.settings.tier == "message"
    assert [point.world.nodes for point in changed.points()] == [50, 50]
    with pytest.raises(InvalidRequest, match=r"ndoes: there is no such key \(did you mean 'nodes'"):
        changed.changed({"ndoes": 1})


@pytest.mark.parametrize("text, line, words", [
    ("ndoes = 3", 1, "there is no such key (did you mean 'nodes'?)"),
    ('seed = 1\nnodes = "many"', 2, "'many' should be a whole number"),
    ("nodes = 1", 1, "1 should be 2 or more"),
    ("nodes = 30_000_000", 1, "should be 20,000,000 or less"),
    ('tier = "flo"', 1, "should be flow, message or stack (did you mean 'flow'?)"),
    ('horizon = "soon"', 1, "should be a duration such as 90s, 10m or 1h"),
    ("degree = 7", 1, "it must be even"),
    ("loss_percent = 1", 1, "the tier flow computes gossip at once: use message"),
    ("invalid_percent = 1", 1, "the tier flow computes gossip at once: use message"),
    ("nodes = 5\nrequesters = 5", 2, "there must be more nodes than requesters"),
    ('[latency]\nmodel = "rgions"', 2, "(did you mean 'regions'?); there are regions, uniform"),
    ('[latency]\nmodel = "matrix"', 2, "the model needs file"),
    ("[demand]\nper_minut = 3", 2, "no such parameter (did you mean 'per_minute'?)"),
    ('[churn]\nsession = "1h"', 2, "the model 'steady' has no such parameter: it has none"),
    ("[demand]\nper_minute = true", 2, "should be a number"),
    ("[adversaries.lair]\nshare_percent = 1", 2, "did you mean 'liar'?"),
    ("[adversaries.liar]\nshare_percent = 101", 2, "should be 100 or less"),
    ("[sweep]\nnodes = [20, 0]", 2, "0 should be 2 or more"),
    ('[sweep]\n"churn.shape" = [1]', 2, "no such parameter"),
    ("[wrld]\nnodes = 3", 2, "there is no such key"),
])  # fmt: skip
def test_a_mistake_is_named_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Scenario.parse(text, Path("world.toml"))
    assert str(raised.value).startswith(f"world.toml, line {line}: ")
    assert words in str(raised.value)


def test_what_is_not_toml_or_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"world.toml: .*line 1"):
        Scenario.parse("nodes = = 3", Path("world.toml"))
    with pytest.raises(InvalidRequest, match=r"cannot read .*no.toml: No such file"):
        Scenario.read(tmp_path / "no.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="it is not UTF-8"):
        Scenario.read(tmp_path / "binary.toml")


def test_a_file_that_a_scenario_names_is_beside_it(tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_text("north,south\n10,80\n80,20\n")
    (tmp_path / "world.toml").write_text(
        'nodes = 20\n[latency]\nmodel = "matrix"\nfile = "times.csv"'
    )
    scenario = Scenario.read(tmp_path / "world.toml")
    assert scenario.world.latency.links(20, 1).regions == ("north", "south")
    before = scenario.digest
    assert Scenario.of(scenario.values).digest == before
    (tmp_path / "times.csv").write_text("north,south\n10,90\n90,20\n")
    assert scenario.digest != before, "what it contains counts"


WHOLE = {"tier": "stack", "nodes": 20}


def test_whole_nodes_have_real_keys() -> None:
    assert Scenario.of(WHOLE).world.crypto
    assert not Scenario.of({**WHOLE, "tier": "message"}).world.crypto


@pytest.mark.parametrize("values, words", [
    ({"nodes": 201}, "nodes: the tier stack runs whole nodes, at most 200"),
    ({"demand.image_mib": 1_000}, "demand.image_mib: the tier stack stores images as files, 204"),
    ({"adversaries.liar.share_percent": 5}, "adversaries: in the tier stack all nodes are honest"),
])  # fmt: skip
def test_what_whole_nodes_cannot_do_is_said(values: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Scenario.of({**WHOLE, **values})
