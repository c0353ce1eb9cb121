"""Requesters that cheat in a network of honest providers: each lie leaves a proof, and costs.

Spec: specs/fraud.md. The cheats are the honest machine with one part replaced.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from protocol.machines.answers import BidResult
from protocol.machines.effects import Effect, Send
from protocol.machines.requester.auction import deciding, machine
from protocol.rules.fraud import Fraud, verify
from protocol.values.errors import InvalidProof, NothingProven
from protocol.values.reasons import Refusal
from protocol.values.units import PPM
from protocol.wire.envelope import open_envelope
from protocol.wire.messages import NO_LOSER, BidRefusal, CommitSet, Outcome
from tests.simulated_network import SimulatedNetwork, job_spec, provider_policy
from tests.simulated_node import Node

Patch = pytest.MonkeyPatch


def network_of(*providers: str, **policy: int) -> tuple[SimulatedNetwork, Node]:
    network = SimulatedNetwork(1)
    for number, name in enumerate(providers):
        network.add(name, provider_policy(cpu=1_000 + 100 * number, cpus=4, **policy))
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


def says_that_nobody_won(patch: Patch, **more: Any) -> None:
    """It could call again for just less than the best bid."""
    fair = deciding.Outcome

    def none(call_id: Any, commit_set: Any, shares: Any, rate: int, opened: Any, _: int) -> Any:
        told = fair(call_id, commit_set, (), 0, opened, 1_000)
        return replace(told, **more)

    patch.setattr(deciding, "Outcome", none)


CHEATS: list[tuple[Callable[[Patch], None], dict[str, Fraud]]] = [
    (favours_the_dearest, {"dan": Fraud.WRONG_PRICE}),
    (favours_the_dearest_and_denies_it, {"ben": Fraud.WRONGLY_LOST, "cleo": Fraud.WRONGLY_LOST}),
    (pays_less, {"ben": Fraud.WRONG_PRICE}),
    (pays_the_ask, {"ben": Fraud.WRONG_PRICE}),
    (tells_losers_another_outcome, {"ben": Fraud.EQUIVOCATION}),
    (says_that_nobody_won, dict.fromkeys(("ben", "cleo", "dan"), Fraud.WRONGLY_LOST)),
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


# A requester that shows a bidder another set, which holds a bid of its own.


def staggers(patch: Patch, network: SimulatedNetwork, victim: Node, *, late_ms: int = 0) -> None:
    """Let one bidder have another set, perhaps when the others have opened their bids.

    It is told nothing of how the auction of the others ends.
    """
    fair = machine._close_set

    def twofold(state: Any, context: Any) -> Any:
        following, sends = fair(state, context)
        until_ms = network.now_ms + late_ms

        def withheld(_: str, receiver: str, message: object) -> bool:
            is_early = isinstance(message, CommitSet) and network.now_ms < until_ms
            return receiver == victim.name and (is_early or isinstance(message, Outcome))

        network.drop = withheld
        return following, tuple(other(send, context) for send in sends)

    def other(send: Send, context: Any) -> Send:
        told = open_envelope(send.envelope, context.signer.network_id, send.peer).message
        if send.peer != victim.peer_id or not isinstance(told, CommitSet):
            return send
        shill = bytes([7]) * 32
        pairs = sorted([*zip(told.commitments, told.weights, strict=True), (shill, PPM)])
        digests, weights = zip(*pairs, strict=True)
        signed = context.signer.sign(CommitSet(told.call_id, digests, weights))
        return replace(send, envelope=signed.envelope)

    patch.setattr(machine, "_close_set", twofold)


@pytest.mark.parametrize("late_ms", [0, 500], ids=["at once", "after the others"])
@pytest.mark.parametrize("victim", ["ben", "cleo", "dan"])
def test_who_shows_a_bidder_another_set_is_exposed_by_the_bidders(
    victim: str, late_ms: int, monkeypatch: Patch
) -> None:
    network, ann = network_of("ben", "cleo", "dan", audit_percent=100)
    nodes = {node.name: node for node in network.nodes.values()}
    staggers(monkeypatch, network, nodes[victim], late_ms=late_ms)
    network.submit(ann, job_spec())
    others = [node for name, node in nodes.items() if name not in {"ann", victim}]
    assert network.run_until(
        lambda: bool(nodes[victim].disk.proofs and any(node.disk.proofs for node in others)),
        3_000,
    )
    for node in nodes.values():
        for kept in node.disk.proofs:
            assert verify(kept.proof) == kept.finding
            assert (kept.finding.fraud, kept.finding.requester) == (
                Fraud.EQUIVOCATION, ann.peer_id,
            )  # fmt: skip
            assert node.core.standings.of(ann.peer_id).barred_until_ms
            assert list(node.core.provider.bids.answers.values())[-1].result is BidResult.CHEATED


def test_a_bidder_that_was_shown_the_set_of_another_does_not_open_its_bid_to_a_second(
    monkeypatch: Patch,
) -> None:
    network, ann = network_of("ben", "dan", audit_percent=100)
    ben, dan, _ = network.nodes.values()
    staggers(monkeypatch, network, dan, late_ms=500)
    network.submit(ann, job_spec())
    assert network.run_until(lambda: bool(dan.disk.proofs and ben.disk.proofs), 3_000)
    said = [line for _, line in network.log]
    assert "ben -> dan: SetCheck" in said
    assert "dan -> ben: SetCheck" in said, "ben learns of it, too"
    assert not any(line.startswith("dan -> ann: BidReveal") for line in said)


def test_bidders_that_do_not_compare_their_sets_do_not_see_it(monkeypatch: Patch) -> None:
    network, ann = network_of("ben", "cleo", "dan", audit_percent=0)
    staggers(monkeypatch, network, next(n for n in network.nodes.values() if n.name == "dan"))
    job_id = network.submit(ann, job_spec())
    assert network.run_until(lambda: network.ended(ann, job_id))
    assert not any(node.disk.proofs for node in network.nodes.values())


def test_a_proof_of_two_sets_needs_no_node_and_every_bit_of_it(
    tmp_path: Path, monkeypatch: Patch
) -> None:
    network, ann = network_of("ben", "cleo", "dan", audit_percent=100)
    staggers(monkeypatch, network, next(n for n in network.nodes.values() if n.name == "dan"))
    network.submit(ann, job_spec())
    proofs = [node.disk.proofs for node in network.nodes.values()]
    assert network.run_until(lambda: any(proofs), 3_000)
    sound = next(kept[0].proof for kept in proofs if kept)
    path = tmp_path / "two sets.proof"
    path.write_bytes(sound)
    told = subprocess.run(
        [sys.executable, "-m", "node", "verify", path], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert "proven   equivocation\n" in told.stdout
    assert f"against  {ann.peer_id}\n" in told.stdout
    for bit in range(8 * len(sound)):
        flipped = bytearray(sound)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidProof, NothingProven)):
            verify(bytes(flipped))


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


def test_who_reads_bids_and_says_that_nobody_opened_one_has_aborted(monkeypatch: Patch) -> None:
    network, ann = network_of("ben", "cleo")
    ben = next(node for node in network.nodes.values() if node.name == "ben")
    says_that_nobody_won(monkeypatch, opened=(), losing_score=NO_LOSER)
    network.submit(ann, job_spec())
    standing = ben.core.standings.of
    assert network.run_until(lambda: bool(standing(ann.peer_id).aborts), 3_000)
    assert not ben.disk.proofs, "it may have come too late"


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
