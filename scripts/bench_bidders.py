"""What an award costs by the number of providers that could serve it, in virtual time.

Why: each bidder costs its requester and itself messages and processor time. A call's lottery keeps
the bidders near 32, so a market of 10,000 nodes must not be slower than one of 100.

Real: both halves of the core of every node, their rules, time-outs and signatures. The requester
has the records of all providers in its own directory. Simulated: time (messages take 20 to 60 ms,
none is lost), disks and containers. Simplified: a provider hears no records of others; gossip comes
from its author, in one hop, and counts once for each receiver; a signature is verified once, as all
would find the same, and each receiver is charged what that took. The network's own work (TCP,
encryption, libp2p) is not in it: `scripts/bench award` measures that, on real processes.
Spec: specs/overview.md#bench.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from protocol.core.presence import record_of
from protocol.machines import effects, events, inputs
from protocol.machines.context import Context, Policy
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signed
from protocol.wire.messages import CapabilityRecord, Carrier
from scripts.bench_figures import rounded, spread
from tests.simulated_network import LENDS_NOTHING, SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node
from tests.simulated_parts import Clock, NamedKeys

SIZES: Final = (5, 10, 32, 100, 1_000, 10_000)
DELAY_MS: Final = (20, 60)
JOB_MS: Final = 500
CONNECTED: Final = 64
"""The requester is connected with so many providers."""
WARM_UPS: Final = 3
"""By then it is known who answers."""
PAUSE_MS: Final = 5_000
"""After each job: late messages of its auction count, too."""
HOUR_MS: Final = 3_600_000
LIMIT_MS: Final = 120_000


class TimedKeys(NamedKeys):
    """Identities that know how long it took to verify each message."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.verified_ns: dict[bytes, int] = {}

    def open(
        self, envelope: bytes, sender: PeerId, carrier: Carrier = Carrier.STREAM
    ) -> Signed[Any]:
        begin_ns, is_new = time.process_time_ns(), envelope not in self.opened
        signed = super().open(envelope, sender, carrier)
        if is_new:
            self.verified_ns[envelope] = time.process_time_ns() - begin_ns
        return signed


class CrowdedNetwork(SimulatedNetwork):
    """One requester and many providers. It counts messages and processor time by node."""

    keys_type = TimedKeys
    identities: TimedKeys

    def __init__(self, seed: int, providers: int) -> None:
        super().__init__(seed, delay_ms=DELAY_MS, job_ms=JOB_MS)
        self.gossiped = 0
        self.spent_ns: Counter[PeerId] = Counter()
        self._reported: list[tuple[int, events.JobEvent]] = []
        self.witnesses.append(lambda *told: self._reported.append((self.now_ms, told[-1])))
        self.requester = self._add("requester")
        for number in range(providers):
            node = self._add(f"p{number}", provider_policy(cpu=1_000 + number % 997))
            context = Context(self.now_ms, node.signer, node.policy)
            record = node.signer.sign(record_of(context, 2))
            source = f"10.{number >> 8}.{number & 255}.1"
            self.give(self.requester, inputs.RecordReceived(record, source))
            if number < CONNECTED:
                self.give(self.requester, inputs.PeerConnected(node.peer_id, source))
        self.run(1_000)

    def _add(self, name: str, policy: Policy = LENDS_NOTHING) -> Node:
        """Add a node whose processor time is counted."""
        node = self.add(name, policy)
        handle = node.core.handle

        def timed(event: Any, now_ms: int) -> list[effects.Effect]:
            begin_ns = time.process_time_ns()
            wanted = handle(event, now_ms)
            self.spent_ns[node.peer_id] += time.process_time_ns() - begin_ns
            return wanted

        node.core.handle = timed
        return node

    def run_job(self, number: int) -> dict[str, float]:
        """Run one job of a class of its own, to its end; return its figures."""
        spec = job_spec()
        spec = replace(spec, workload=replace(spec.workload, timeout_ms=HOUR_MS + number))
        begin_ms, sent, gossiped = self.now_ms, self.sent.total(), self.gossiped
        spent = self.spent_ns.copy()
        self._reported.clear()
        job_id = self.submit(self.requester, spec)
        if not self.run_until(lambda: self.ended(self.requester, job_id), LIMIT_MS):
            raise RuntimeError(f"a job among {len(self.nodes)} nodes did not end")
        self.run(PAUSE_MS)
        happened = {type(event): (at_ms, event) for at_ms, event in self._reported}
        opened = happened[events.BidsOpened][1]
        spent_ms = {peer: (ns - spent[peer]) / 10**6 for peer, ns in self.spent_ns.items()}
        requester_ms = spent_ms.pop(self.requester.peer_id)
        return {
            "bidders": len(opened.bids) + opened.unopened,
            "award_ms": happened[events.Awarded][0] - begin_ms,
            "messages": self.sent.total() - sent,
            "gossip": self.gossiped - gossiped,
            "requester_cpu_ms": requester_ms,
            "provider_cpu_ms": sum(spent_ms.values()) / len(spent_ms),
        }

    def give(self, node: Node, event: Any) -> None:
        if isinstance(event, Signed):
            self.spent_ns[node.peer_id] += self.identities.verified_ns.get(event.envelope, 0)
        super().give(node, event)

    def connect(self, one: Node, other: Node) -> None:
        """Connect nobody: what two nodes say when they meet does not count."""

    def publish(self, author: Node, _topic: str, envelope: bytes) -> None:
        """Let everybody hear a call, and nobody a record."""
        signed = self.identities.open(envelope, author.peer_id, Carrier.GOSSIP)
        if isinstance(signed.message, CapabilityRecord):
            return
        for other in self.nodes.values():
            if other is not author:
                self.gossiped += 1
                self.after(self.random.randint(*self.delay_ms), self.give, other, signed)


def bench_bidders(sizes: Sequence[int], jobs: int, seed: int) -> dict[str, Any]:
    """Run so many jobs, one after the other, in a network of each size; return the figures."""
    load = {"start": os.getloadavg()[0]}
    found = {}
    for size in sizes:
        _show_progress(f"{size} providers: records")
        network, begin_s = CrowdedNetwork(seed, size), time.monotonic()
        runs = []
        for number in range(WARM_UPS + jobs):
            _show_progress(f"{size} providers: job {number + 1} of {WARM_UPS + jobs}")
            runs.append(network.run_job(number))
        warm = runs[WARM_UPS:]
        found[str(size)] = {
            "first": {name: rounded(value) for name, value in runs[0].items()},
            "later": {name: spread([run[name] for run in warm]) for name in warm[0]},
            "seconds": rounded(time.monotonic() - begin_s),
        }
    _show_progress("")
    load["end"] = os.getloadavg()[0]
    return {"jobs": jobs, "seed": seed, "load": load, "processors": os.cpu_count(),
            "providers": found}  # fmt: skip


def _show_progress(line: str) -> None:
    """Show where we are while a person watches."""
    if sys.stderr.isatty():
        print(f"\r{line:<60}", end="" if line else "\r", file=sys.stderr, flush=True)


def show_bidders(found: dict[str, Any]) -> None:
    """Print the figures for people."""
    load = "load {start:.1f} at the start, {end:.1f} at the end".format(**found["load"])
    print(f"medians of {found['jobs']} jobs, in virtual time, seed {found['seed']}; {load},"
          f" {found['processors']} processors")  # fmt: skip
    form = "{:>9}  {:>7}  {:>9}  {:>8}  {:>8}  {:>13}  {:>21}"
    print(form.format("providers", "bidders", "award, ms", "messages", "gossip", "requester, ms",
                      "mean of providers, ms"))  # fmt: skip
    for size, figures in found["providers"].items():
        print(form.format(size, *(each["p50"] for each in figures["later"].values())))
    print("the first job of a requester that knows nobody:")
    for size, figures in found["providers"].items():
        print(form.format(size, *figures["first"].values()))
