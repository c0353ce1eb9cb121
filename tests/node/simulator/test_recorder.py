"""What the recorder keeps is what happened, and it changes nothing.

Spec: specs/simulation-results.md#tables.
"""

from collections import Counter

import pytest

from node.simulator.recorder import Recorder
from node.simulator.simulation import Simulation, World
from node.simulator.tables import TABLES
from node.simulator.world.demand import Burst, spec_of
from protocol.machines import events, inputs
from protocol.values.ids import JobId
from protocol.wire.job import array_of
from tests.node.simulator.recorded import CALM, HORIZON_MS, ROUGH, run_of, simulated

BOTH = pytest.mark.parametrize("world", [CALM, ROUGH], ids=["calm", "rough"])


def rows_of(table):
    return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]


@BOTH
def test_a_recorded_run_is_the_same_run(world):
    recorded, _ = run_of(world)
    alone = Simulation(world, "flow", 1)
    alone.run(HORIZON_MS)
    assert alone.network.digest.hex() == recorded.network.digest.hex()


@BOTH
def test_tables_have_their_columns_and_whole_rows(world):
    _, tables = run_of(world)
    assert set(tables) == set(TABLES)
    for name, table in tables.items():
        assert list(table) == [column.name for column in TABLES[name]]
        assert len({len(column) for column in table.values()}) == 1


def test_a_job_goes_through_its_times_in_order():
    _, tables = run_of(CALM)
    jobs = rows_of(tables["jobs"])
    assert len(jobs) == 30
    for job in jobs:
        assert job["outcome"] == "done"
        assert job["submitted_ms"] == 0 <= job["awarded_ms"] < job["running_ms"] < job["ended_ms"]
        assert job["work_ms"] == job["usage_ms"] <= job["ended_ms"] - job["running_ms"]
        assert 0 < job["floor"] <= job["ask"] <= job["rate"]
    assert any(job["announced_ms"] is None for job in jobs)
    assert all(job["bidders"] for job in jobs if job["announced_ms"] is not None)


def test_what_jobs_paid_is_what_nodes_have():
    simulation, tables = run_of(CALM)
    paid = Counter()
    for job in rows_of(tables["jobs"]):
        paid[job["requester"]] += job["paid"]
    nodes = rows_of(tables["nodes"])
    assert {node["number"]: node["paid"] for node in nodes if node["paid"]} == paid
    assert sum(node["earned"] for node in nodes) == paid.total() > 0
    assert all(node["earned"] == 0 for node in nodes if not node["lends"])
    assert simulation.world.nodes == len(nodes)


@BOTH
def test_an_award_is_compared_with_the_cheapest_of_all(world):
    _, tables = run_of(world)
    awarded = [row for row in rows_of(tables["auctions"]) if row["winner"] is not None]
    assert len(awarded) == sum(tables["nodes"]["awards"]) == sum(tables["links"]["awards"])
    for row in awarded:
        assert 0 < row["lowest"] <= row["floor"]
        assert row["costs"] == sorted(row["costs"])
        assert len(row["slots"]) == len(row["costs"]) <= 16
    assert any(row["lowest"] < row["floor"] for row in awarded)


def test_an_auction_has_one_row_for_each_award():
    seen = Counter()
    simulation = Simulation(CALM, "flow", 1)
    simulation.network.witnesses.append(lambda _node, _job, event: seen.update([type(event)]))
    simulation.run(HORIZON_MS)
    _, tables = run_of(CALM)
    auctions = rows_of(tables["auctions"])
    without = [row for row in auctions if row["winner"] is None]
    assert len(auctions) - len(without) == seen[events.Awarded]
    assert len(without) < seen[events.BidsOpened]
    assert seen[events.BidsOpened] < seen[events.Awarded]
    assert all(row["opened"] >= row["eligible"] > 0 for row in auctions if row["winner"])


def test_bids_are_counted_at_who_made_them():
    opened = Counter()

    def note(_node, _job, event):
        if isinstance(event, events.BidsOpened):
            opened.update(simulation.network.identities.number_of(bid.peer) for bid in event.bids)

    simulation = Simulation(CALM, "flow", 1)
    simulation.network.witnesses.append(note)
    simulation.run(HORIZON_MS)
    nodes = rows_of(run_of(CALM)[1]["nodes"])
    assert {node["number"]: node["bids"] for node in nodes if node["bids"]} == opened


def test_time_online_is_that_of_the_churn():
    _, tables = run_of(ROUGH)
    nodes = rows_of(tables["nodes"])
    for node in nodes:
        online_ms, now_ms, online = 0, 0, True
        for change in ROUGH.churn.changes(node["number"], 1) if node["lends"] else ():
            until_ms = min(HORIZON_MS, now_ms + change.after_ms)
            online_ms += until_ms - now_ms if online else 0
            now_ms, online = until_ms, change.online
            if now_ms == HORIZON_MS:
                break
        assert node["online_ms"] == (online_ms if node["lends"] else HORIZON_MS)
        assert node["used_ms"] <= node["busy_ms"] <= node["online_ms"]
    assert sum(node["busy_ms"] for node in nodes) > 0


def test_churn_costs_attempts():
    jobs = rows_of(run_of(ROUGH)[1]["jobs"])
    again = [job for job in jobs if job["attempts"] > 1]
    assert again
    assert all(job["reason"] for job in jobs if job["outcome"] != "open")
    assert {job["outcome"] for job in jobs} >= {"done", "open"}
    assert all((job["ended_ms"] is None) == (job["outcome"] == "open") for job in jobs)


def test_jobs_that_nobody_can_run_have_rows_too():
    impossible = World(nodes=20, requesters=2, demand=Burst(jobs=3, gpus=1, gpu_class="none-such"))
    _, recorder = simulated(impossible, 10_000)
    tables = recorder.tables()
    assert [job["outcome"] for job in rows_of(tables["jobs"])] == ["open"] * 3
    assert tables["auctions"]["winner"] == []
    assert tables["summary"]["served"] == [0]
    assert tables["summary"]["price_ratio"] == [None]


def test_each_member_of_a_gang_is_a_job_with_an_award():
    simulation = Simulation(
        World(nodes=40, requesters=2, demand=Burst(jobs=1, at=10**9)), "flow", 1
    )
    recorder = Recorder(simulation)
    simulation.start(1)
    members = array_of([spec_of(Burst(nodes=2, work=5_000), 0.5)] * 2, b"g" * 16, [0, 1])
    jobs = [inputs.JobSubmitted(JobId(bytes([n]) * 16), spec) for n, spec in enumerate(members)]
    simulation.network.submit(simulation.network.nodes[0], inputs.ArraySubmitted(tuple(jobs)))
    simulation.advance(120_000)
    tables = recorder.tables()
    assert [(job["nodes"], job["outcome"]) for job in rows_of(tables["jobs"])] == [(2, "done")] * 2
    assert tables["auctions"]["job"] == tables["jobs"]["job"]
    assert tables["auctions"]["opened"][0] == tables["auctions"]["opened"][1] > 0


def test_all_events_of_the_digest_or_some_of_them_are_kept():
    simulation, tables = run_of(CALM)
    everything = list(zip(*tables["events"].values(), strict=True))
    assert len(everything) == simulation.network.digest.events
    _, recorder = simulated(CALM, every=7)
    assert list(zip(*recorder.tables()["events"].values(), strict=True)) == everything[::7]
    _, recorder = simulated(CALM, 1_000)
    assert recorder.tables()["events"]["tick"] == []


def test_regions_are_far_from_each_other():
    _, tables = run_of(CALM)
    links = rows_of(tables["links"])
    names = set(tables["nodes"]["region"])
    assert {(link["requesters"], link["providers"]) for link in links} == {
        (one, other) for one in names for other in names
    }
    assert all(1_000 < link["latency_us"] < 1_000_000 for link in links)
    within = [link["latency_us"] for link in links if link["requesters"] == link["providers"]]
    between = [link["latency_us"] for link in links if link["requesters"] != link["providers"]]
    assert sum(within) / len(within) < sum(between) / len(between)


def test_tables_can_be_taken_before_the_end():
    simulation = Simulation(CALM, "flow", 1)
    recorder = Recorder(simulation)
    simulation.start(HORIZON_MS)
    simulation.advance(5_000)
    assert recorder.tables()["summary"]["duration_ms"] == [5_000]
    simulation.advance(HORIZON_MS)
    final = run_of(CALM)[1]
    again = recorder.tables()
    assert {**again, "events": None} == {**final, "events": None}
