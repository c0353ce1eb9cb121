"""Requesters that cheat in a network of honest providers: each lie leaves a proof, and costs.

Spec: specs/fraud.md. The cheats are the honest machine with one part replaced.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from protocol.machines.effects import Effect, Send
from protocol.machines.requester.auction import deciding, machine
from protocol.rules.fraud import Fraud, verify
from protocol.values.reasons import Refusal
from protocol.wire.envelope import open_envelope
from protocol.wire.messages import NO_LOSER, BidRefusal, Outcome
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node

Patch = pytest.MonkeyPatch


def network_of(*providers: str) -> tuple[SimulatedNetwork, Node]:
    network = SimulatedNetwork(1)
    for number, name in enumerate(providers):
        network.add(name, provider_policy(cpu=1_000 + 100 * number, cpus=4))
    ann = network.add("ann")
    network.meet()
    return network, ann


def favours_the_dearest(patch: Patch) -> None:
    ranked = deciding.rank
    patch.setattr(deciding, "rank", lambda *given: tuple(reversed(ranked(*given))))


def favours_the_dearest_and_denies_it(patch: Patch) -> None:
    favours_the_dearest(patch)
    patch.setattr(deciding, "losing_score", lambda *_: NO_LOSER)


def pays_less(patch: Patch) -> None:
    fair = deciding.price_of

    def cheap(*given: Any) -> Any:
        return replace(fair(*given), rate=fair(*given).rate - 1)

    patch.setattr(deciding, "price_of", cheap)


def pays_the_ask(patch: Patch) -> None:
    """It keeps the best losing bid from the winner, and says that it needs no evidence."""
    fair = deciding.price_of

    def own(call: Any, offers: Any, sold: Any, place: Any, shift: int) -> Any:
        return replace(fair(call, offers, sold, place, shift), rate=place[0].bid.ask, evidence=())

    patch.setattr(deciding, "price_of", own)


def tells_losers_another_outcome(patch: Patch) -> None:
    fair = machine.decide

    def twofold(state: Any, context: Any) -> Any:
        following, effects = fair(state, context)
        return following, tuple(other(effect, context) for effect in effects)

    def other(effect: Effect, context: Any) -> Effect:
        if not isinstance(effect, Send):
            return effect
        told = open_envelope(effect.envelope, context.signer.network_id, effect.peer).message
        assert isinstance(told, Outcome)
        return replace(effect, envelope=context.signer.sign(replace(told, clearing=1)).envelope)

    patch.setattr(machine, "decide", twofold)


CHEATS: list[tuple[Callable[[Patch], None], dict[str, Fraud]]] = [
    (favours_the_dearest, {"dan": Fraud.WRONG_PRICE}),
    (favours_the_dearest_and_denies_it, {"ben": Fraud.WRONGLY_LOST, "cleo": Fraud.WRONGLY_LOST}),
    (pays_less, {"ben": Fraud.WRONG_PRICE}),
    (pays_the_ask, {"ben": Fraud.WRONG_PRICE}),
    (tells_losers_another_outcome, {"ben": Fraud.EQUIVOCATION}),
]


@pytest.mark.parametrize("cheat, proven", CHEATS, ids=[cheat.__name__ for cheat, _ in CHEATS])
def test_a_cheat_is_proven_by_whom_it_harms_and_refused(
    cheat: Callable[[Patch], None], proven: dict[str, Fraud], monkeypatch: Patch
) -> None:
    network, ann = network_of("ben", "cleo", "dan")
    nodes = {node.name: node for node in network.nodes.values()}
    cheat(monkeypatch)
    network.submit(ann, job_spec())
    assert network.run_until(lambda: all(nodes[name].disk.proofs for name in proven), 10_000)
    for name, fraud in proven.items():
        first = nodes[name].disk.proofs[0]
        assert verify(first.proof) == first.finding
        assert (first.finding.fraud, first.finding.requester) == (fraud, ann.peer_id)
        assert nodes[name].core.standings.of(ann.peer_id).barred_until_ms


def test_who_is_refused_by_all_is_told_why(monkeypatch: Patch) -> None:
    network, ann = network_of("ben")
    with monkeypatch.context() as patch:
        pays_less(patch)
        first = network.submit(ann, job_spec(queue_ms=0))
        assert network.run_until(lambda: network.ended(ann, first))
    seen: list[int] = []

    def watch(_sender: str, _receiver: str, message: object) -> bool:
        if isinstance(message, BidRefusal):
            seen.append(message.reason)
        return False

    network.drop = watch
    second = network.submit(ann, job_spec(queue_ms=0))
    assert network.run_until(lambda: network.ended(ann, second))
    assert set(seen) == {Refusal.CONDUCT}
    assert "earlier auctions of this node" in ann.disk.events[second][-1].why  # type: ignore[union-attr]


def test_who_reads_bids_and_cancels_is_asked_for_more(monkeypatch: Patch) -> None:
    """The second call could be limited to just more than the bid that was read."""
    network = SimulatedNetwork(1)
    ben = network.add("ben", replace(provider_policy(cpu=10_000), floor_percent=50))
    ann = network.add("ann")
    network.meet()

    def cancels(state: Any, context: Any) -> Any:
        return deciding.call_off(state.auction, [ben.peer_id], context)

    monkeypatch.setattr(machine, "decide", cancels)
    network.submit(ann, job_spec())
    answers = ben.core.provider.bids.answers
    assert network.run_until(lambda: len(answers) == 9)
    first, *_, last = (answered.ask for answered in answers.values())
    assert (first, last) == (5_000, 5_500)
    assert not ben.disk.proofs, "an abort is no fraud"


@pytest.mark.parametrize("crashes", range(4))
def test_a_requester_that_crashes_again_and_again_is_served(crashes: int) -> None:
    network, ann = network_of("ben")
    for _ in range(crashes):
        network.submit(ann, job_spec())
        assert network.run_until(
            lambda: any(
                type(state).__name__ == "Opening"
                for state in ann.core.requester.scheduler.auctions.states.values()
            )
        )
        network.crash(ann)
        network.run(1_000)
        network.restart(ann)
    network.run(60_000)
    job_id = network.submit(ann, job_spec())
    assert network.run_until(lambda: network.ended(ann, job_id))
    assert not any(node.disk.proofs for node in network.nodes.values())
