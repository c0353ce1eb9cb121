"""Keeps what happens in a run as tables, and changes nothing of it.

Attach it before the run begins. Times are in ms since the start. What concerns jobs is as their
requesters see it; what nodes are paid, and when they are online, is as it is.
Spec: specs/simulation-results.md#tables.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Protocol

import numpy as np

from node.simulator.containers import work_of
from node.simulator.digest import Digest
from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.gossip import TopicGossip
from node.simulator.lookups import AddressLookup
from node.simulator.metrics import WINDOW, summarise
from node.simulator.node import SimulatedNode
from node.simulator.optimum import Optimum
from node.simulator.population import Population
from node.simulator.seeds import bits
from node.simulator.tables import COUNTS, Columns, Tables, add_row, empty
from node.simulator.usage import UsageOfNodes, share_of
from protocol.machines import effects, events, inputs
from protocol.rules.matching import Demand, demand_of_job
from protocol.values.ids import JobId, PeerId

PAIRS: Final = 32
"""The latency between two regions is the median of so many pairs of nodes."""
US_PER_TICK: Final = 1000 // TICKS_PER_MS
OPEN, DONE, FAILED = "open", "done", "failed"


class RecordedRun(Protocol):
    """What is recorded: a run of any tier."""

    seed: int
    population: Population
    network: Any
    """As node.simulator.network.SimulatedNetwork: nodes, identities, digest, and who is told."""
    changed: list[Callable[[int, bool], None]]
    repriced: list[Callable[[int], None]]

    @property
    def engine(self) -> Engine: ...

    @property
    def gossip(self) -> TopicGossip: ...


class Recorder:
    """Watches one run. Its tables can be taken at any time."""

    def __init__(self, simulation: RecordedRun, every: int = 0) -> None:
        """Attach to a simulation. `every`: keep each so-manieth event of the digest; 0: none."""
        self._simulation = simulation
        network = simulation.network
        self._usage = UsageOfNodes(simulation.population.online)
        self._jobs = JobRows(simulation, self._usage)
        self._earned: Counter[int] = Counter()
        self._paid: Counter[int] = Counter()
        self._lookups = empty("lookups")
        self._events = empty("events")
        if every:
            network.digest = EventTrace(self._events, every)
        network.submitted.append(self._jobs.submit)
        network.witnesses.append(self._jobs.witness)
        network.settled.append(self._settle)
        simulation.changed.append(self._change)
        if network.lookups is not None:
            network.lookups.ended.append(self._look_up)

    def tables(self) -> Tables:
        """Return all tables as of now; those of jobs, auctions and events grow with the run."""
        counts = self._counts()
        tables = {
            "jobs": self._jobs.jobs, "auctions": self._jobs.auctions,
            "nodes": self._nodes(), "links": self._links(), "lookups": self._lookups,
            "events": self._events,
        }  # fmt: skip
        summary = tables["summary"] = {each.name: [counts[each.name]] for each in COUNTS}
        summary |= {name: [value] for name, value in summarise(tables).items()}
        return tables

    def _settle(self, effect: effects.Settle) -> None:
        number_of = self._simulation.network.identities.number_of
        self._earned[number_of(effect.provider)] += effect.amount
        self._paid[number_of(effect.requester)] += effect.amount

    def _look_up(self, lookup: AddressLookup) -> None:
        add_row(self._lookups, {
            "at_ms": lookup.at_ms, "node": lookup.seeker, "wanted": lookup.wanted,
            "found": lookup.found, "hops": lookup.hops or None, "requests": lookup.requests,
            "took_ms": lookup.took_ms,
        })  # fmt: skip

    def _change(self, number: int, online: bool) -> None:  # noqa: FBT001 - as it is told.
        self._usage.change(number, online, _ms(self._simulation))

    def _counts(self) -> dict[str, Any]:
        simulation, traffic = self._simulation, self._simulation.gossip.traffic
        return {
            "duration_ms": _ms(simulation),
            "nodes": len(simulation.population),
            "requesters": simulation.population.requesters,
            "jobs": len(self._jobs.jobs["job"]),
            "events": simulation.engine.events,
            "digest": simulation.network.digest.hex(),
            "messages": simulation.network.sent.total(),
            "published": traffic.published,
            "transmissions": traffic.transmissions,
            "duplicates": traffic.duplicates,
        }

    def _nodes(self) -> Columns:
        population, now_ms = self._simulation.population, _ms(self._simulation)
        count, requesters = len(population), population.requesters
        numbers = range(count)
        regions = population.links.regions
        nothing = [None] * requesters
        used = [self._usage.of(number, now_ms) for number in numbers]
        return {
            "number": list(numbers),
            "region": [regions[each] for each in population.links.region.tolist()],
            "kind": nothing + population.kind[requesters:].tolist(),
            "lends": [number >= requesters for number in numbers],
            "price_percent": nothing + population.price_percent[requesters:].tolist(),
            "online_ms": self._usage.online_ms(now_ms),
            "busy_ms": [busy_ms for busy_ms, _ in used],
            "used_ms": [used_ms for _, used_ms in used],
            "bids": [self._jobs.bids[number] for number in numbers],
            "awards": [self._jobs.awards[number] for number in numbers],
            "earned": [self._earned[number] for number in numbers],
            "paid": [self._paid[number] for number in numbers],
        }

    def _links(self) -> Columns:
        links, seed = self._simulation.population.links, self._simulation.seed
        members = [np.flatnonzero(links.region == each) for each in range(len(links.regions))]
        table = empty("links")
        for one, there in enumerate(members):
            for other, here in enumerate(members):
                if len(there) and len(here):
                    drawn = bits(seed, f"recorder/{one}/{other}", 2 * PAIRS)
                    ends = drawn[:PAIRS] % len(there), drawn[PAIRS:] % len(here)
                    ticks = links.ticks(there[ends[0]], here[ends[1]])
                    add_row(table, {
                        "requesters": links.regions[one], "providers": links.regions[other],
                        "latency_us": int(np.median(ticks)) * US_PER_TICK,
                        "awards": self._jobs.pairs[one, other],
                    })  # fmt: skip
        return table


class JobRows:
    """The rows of jobs and auctions: follows each job through its events."""

    def __init__(self, simulation: RecordedRun, usage: UsageOfNodes) -> None:
        self.jobs = empty("jobs")
        self.auctions = empty("auctions")
        self.bids: Counter[int] = Counter()
        self.awards: Counter[int] = Counter()
        self.pairs: Counter[tuple[int, int]] = Counter()
        """Awards by the regions of requester and provider."""
        self._simulation = simulation
        self._usage = usage
        self._optimum = Optimum(simulation.population, simulation.network.nodes)
        simulation.repriced.append(self._optimum.forget)
        self._rows: dict[JobId, int] = {}
        self._wanted: list[Demand] = []
        """The demand of each job, without a price."""
        self._demands: dict[Demand, int] = {}
        self._opened: dict[tuple[int, Demand], int] = {}
        """The row of the last auction of a requester for a demand."""
        self._caps: dict[tuple[int, Demand], int] = {}
        """The cap of its last call."""
        self._told: dict[type, Callable[[int, SimulatedNode, Any], None]] = {
            events.Announced: self._announced,
            events.BidsOpened: self._bids_opened,
            events.Awarded: self._awarded,
            events.Running: self._running,
            events.Returning: self._returning,
            events.Done: self._done,
            events.Retrying: self._retrying,
            events.Failed: self._failed,
        }

    def submit(self, node: SimulatedNode, event: inputs.JobSubmitted) -> None:
        """Begin the row of a job."""
        terms, workload = event.spec.terms, event.spec.workload
        self._rows[event.job_id] = add_row(self.jobs, {
            "job": event.job_id.hex(), "requester": node.number,
            "submitted_ms": _ms(self._simulation), "outcome": OPEN, "reason": "", "attempts": 1,
            "rate_max": terms.rate_max or None, "work_ms": work_of(workload), "usage_ms": 0,
            "paid": 0, "nodes": terms.nodes, "cpus": workload.resources.cpus,
            "gpus": workload.resources.gpus,
        })  # fmt: skip
        self._wanted.append(replace(demand_of_job(event.spec), rate_max=0))

    def witness(self, node: SimulatedNode, job_id: JobId, event: events.JobEvent) -> None:
        """Take an event of a job."""
        told = self._told.get(type(event))
        if told is not None and job_id in self._rows:
            told(self._rows[job_id], node, event)

    # --- events ---------------------------------------------------------------------------

    def _announced(self, row: int, node: SimulatedNode, event: events.Announced) -> None:
        self._note_first(row, "announced_ms")
        self.jobs["attempts"][row] = event.attempt + 1
        self._caps[node.number, self._wanted[row]] = event.rate_max
        self._note_value(row, event.rate_max)

    def _bids_opened(self, row: int, node: SimulatedNode, event: events.BidsOpened) -> None:
        self.jobs["bidders"][row] = len(event.bids)
        for each in event.bids:
            self.bids[self._number(each.peer)] += 1
        self._opened[node.number, self._wanted[row]] = self._add_auction(row, {
            "opened": len(event.bids), "eligible": sum(each.eligible for each in event.bids),
            "unopened": event.unopened, "refused": len(event.refusals),
        })  # fmt: skip

    def _awarded(self, row: int, node: SimulatedNode, event: events.Awarded) -> None:
        provider, demand = self._number(event.provider), self._wanted[row]
        floor = self._optimum.floor(demand, provider)
        self._note_first(row, "awarded_ms")
        if self.jobs["rate_max"][row] is None:  # The auction of another job serves it.
            self._note_value(row, self._caps.get((node.number, demand), event.rate))
        said = {"rate": event.rate, "ask": event.ask, "floor": floor}
        for name, value in {**said, "provider": provider, "runner_up": event.runner_up}.items():
            self.jobs[name][row] = value
        self.awards[provider] += 1
        region = self._simulation.population.links.region
        self.pairs[int(region[node.number]), int(region[provider])] += 1
        auction = self._auction_of(row, node)
        for name, value in {**said, "winner": provider}.items():
            self.auctions[name][auction] = value
        lowest = self.auctions["lowest"][auction]
        self.auctions["lowest"][auction] = floor if lowest is None else min(lowest, floor)

    def _running(self, row: int, node: SimulatedNode, event: events.Running) -> None:
        self._note_first(row, "running_ms")
        provider = self._number(event.provider)
        total = self._simulation.population.policy(provider).capacity
        share = share_of(total, self._wanted[row].resources)
        self._usage.begin(self._job_id(row), provider, share, _ms(self._simulation))

    def _returning(self, row: int, node: SimulatedNode, event: events.Returning) -> None:
        self._usage.end(self._job_id(row), _ms(self._simulation))

    def _done(self, row: int, node: SimulatedNode, event: events.Done) -> None:
        self.jobs["exit_code"][row] = event.exit_code
        self._pay(row, event)
        self._end(row, DONE)

    def _retrying(self, row: int, node: SimulatedNode, event: events.Retrying) -> None:
        self._pay(row, event)
        self.jobs["attempts"][row] += 1

    def _failed(self, row: int, node: SimulatedNode, event: events.Failed) -> None:
        self._pay(row, event)
        self._end(row, FAILED)

    # --- rows -----------------------------------------------------------------------------

    def _pay(self, row: int, event: events.Done | events.Retrying | events.Failed) -> None:
        """Note the end of an attempt."""
        self.jobs["reason"][row] = str(event.reason)
        self.jobs["usage_ms"][row] += event.usage_ms
        self.jobs["paid"][row] += event.amount
        self._usage.end(self._job_id(row), _ms(self._simulation))

    def _end(self, row: int, outcome: str) -> None:
        self.jobs["outcome"][row] = outcome
        self.jobs["ended_ms"][row] = _ms(self._simulation)
        del self._rows[self._job_id(row)]

    def _note_first(self, row: int, name: str) -> None:
        if self.jobs[name][row] is None:
            self.jobs[name][row] = _ms(self._simulation)

    def _note_value(self, row: int, rate: int) -> None:
        self.jobs["rate_max"][row] = max(self.jobs["rate_max"][row] or 0, rate)

    def _auction_of(self, row: int, node: SimulatedNode) -> int:
        """Return the row of an award: the auction's own one, or a copy for each further slot."""
        opened = self._opened.get((node.number, self._wanted[row]))
        if opened is None:  # The job that it was opened for had ended.
            return self._add_auction(row, {})
        auctions = self.auctions
        if auctions["winner"][opened] is None and auctions["job"][opened] == self._hex(row):
            return self._refresh(opened, row)
        names = ("opened", "eligible", "unopened", "refused")
        return self._add_auction(row, {name: auctions[name][opened] for name in names})

    def _add_auction(self, row: int, values: dict[str, Any]) -> int:
        demand = self._wanted[row]
        requester = self.jobs["requester"][row]
        number = self._demands.setdefault(demand, len(self._demands))
        added = add_row(self.auctions, {
            **values, "requester": requester, "job": self._hex(row), "demand": number,
            "work_ms": self.jobs["work_ms"][row],
        })  # fmt: skip
        return self._refresh(added, row)

    def _refresh(self, auction: int, row: int) -> int:
        """Note what the network could offer now."""
        cheapest = self._optimum.cheapest(self._wanted[row], WINDOW)
        costs = [cost for cost, _ in cheapest]
        now = {
            "at_ms": _ms(self._simulation), "rate_max": self.jobs["rate_max"][row],
            "lowest": costs[0] if costs else None, "costs": costs,
            "slots": [provider for _, provider in cheapest],
        }  # fmt: skip
        for name, value in now.items():
            self.auctions[name][auction] = value
        return auction

    def _number(self, peer: PeerId) -> int:
        number: int = self._simulation.network.identities.number_of(peer)
        return number

    def _hex(self, row: int) -> str:
        found: str = self.jobs["job"][row]
        return found

    def _job_id(self, row: int) -> JobId:
        return JobId(bytes.fromhex(self._hex(row)))


class EventTrace(Digest):
    """A digest that also keeps each so-manieth event."""

    def __init__(self, table: Columns, every: int) -> None:
        super().__init__()
        self._table = table
        self._every = every

    def note(self, tick: int, kind: int, node: int, peer: int, number: int = 0) -> None:
        """Add one event."""
        if self.events % self._every == 0:
            for column, value in zip(
                self._table.values(), (tick, kind, node, peer, number), strict=True
            ):
                column.append(value)
        super().note(tick, kind, node, peer, number)


def _ms(simulation: RecordedRun) -> int:
    """Return the time since the start."""
    return simulation.engine.now // TICKS_PER_MS
