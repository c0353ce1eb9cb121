"""G2: a gang is confirmed only where it wants to be: near enough, or in as many regions.

Spec: specs/gangs.md#round-trips.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from typing import Final

from protocol.values.ids import PeerId
from protocol.wire.job import Terms
from protocol.wire.messages import LeaseConfirm
from tests.faults.network import FaultyNetwork

NAME: Final = "G2 a gang is where it wants to be"


def at_end(network: FaultyNetwork) -> Iterator[str]:
    history = network.history
    specs = {job_id: network.job(node, job_id).spec for node, job_id in network.jobs}
    for step in history.steps:
        confirmed: dict[bytes, list[PeerId]] = defaultdict(list)
        terms: dict[bytes, Terms] = {}
        for message in (signed.message for signed in step.said):
            if isinstance(message, LeaseConfirm):
                place = history.places[message.lease_id]
                spec = specs.get(place.job_id)  # Its submission may not have been committed.
                if spec is None:
                    continue
                confirmed[spec.gang].append(place.provider)
                terms[spec.gang] = spec.terms
        for gang, providers in confirmed.items():
            yield from _wrong(network, terms[gang], providers)


def _wrong(network: FaultyNetwork, terms: Terms, providers: list[PeerId]) -> Iterator[str]:
    nodes = [network.peer(peer) for peer in providers]
    regions = [node.policy.region for node in nodes]
    if terms.spread_regions and ("" in regions or len(set(regions)) < len(regions)):
        yield f"members in the regions {regions}"
    if not terms.max_round_trip_us:
        return
    for one, other in combinations(nodes, 2):
        took_us = network.round_trip_us(one.name, other.name)
        if one is not other and took_us > terms.max_round_trip_us:
            yield f"{one.name} and {other.name} are {took_us} us from each other"
