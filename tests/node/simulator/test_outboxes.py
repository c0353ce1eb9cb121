"""Messages between two nodes: they arrive at least once, until their deadline, also after a crash.

Spec: specs/core.md#outbox.
"""

from typing import Any

import pytest

from node.simulator.node import SimulatedNode
from node.simulator.outboxes import NO_ROW, RESEND_MS, RESEND_MS_MAX, Outboxes
from protocol.machines import effects, inputs
from protocol.wire.messages import Ready
from tests.node.simulator.fake_network import DELAY_MS, FakeNetwork

WORD = Ready(bytes(32))


class Mail:
    """Node 0 sends to node 1."""

    def __init__(self) -> None:
        self.network = FakeNetwork()
        self.outboxes = Outboxes(self.network)
        self.sender, self.receiver = (self.network.nodes[number] for number in (0, 1))

    def send(self, for_ms: int = 60_000, *, durable: bool = True) -> None:
        until_ms = self.network.now_ms + for_ms if for_ms else 0
        envelope = self.sender.core.signer.sign(WORD).envelope
        effect = effects.Send(self.receiver.peer_id, envelope, until_ms, durable)
        self.outboxes.send(self.sender, effect, self.outboxes.store(self.sender, effect))

    def probe(self, for_ms: int = 4_500) -> None:
        envelope = self.sender.core.signer.sign(WORD).envelope
        until_ms = self.network.now_ms + for_ms
        self.outboxes.probe(
            self.sender, effects.ProbePeer(self.receiver.peer_id, envelope, until_ms)
        )

    def heard(self, duration_ms: int = 0) -> list[int]:
        """Let time pass; return when the receiver has heard something until now."""
        self.network.run(duration_ms)
        assert all(word == [1, 0, WORD] for _, *word in self.network.heard)
        return [at_ms for at_ms, *_ in self.network.heard]

    @property
    def waiting(self) -> int:
        """How many messages the sender would send again."""
        return len(self.sender.disk.outbox) + len(self.sender.in_memory)


@pytest.mark.parametrize("for_ms", [0, 60_000])
@pytest.mark.parametrize("durable", [True, False])
def test_a_message_takes_its_time_and_is_then_forgotten(for_ms: int, durable: bool) -> None:
    mail = Mail()
    mail.send(for_ms, durable=durable)
    assert mail.waiting == (for_ms > 0)
    assert len(mail.sender.disk.outbox) == (for_ms > 0 and durable)
    assert mail.heard(DELAY_MS) == []
    assert mail.heard(60_000) == [DELAY_MS]
    assert mail.waiting == 0
    assert mail.outboxes.sent == {"Ready": 1}
    assert mail.sender.peer_id in mail.receiver.core.connected


def test_messages_arrive_in_their_order() -> None:
    mail = Mail()
    words = [Ready(bytes([number]) * 32) for number in range(3)]
    for word in words:
        envelope = mail.sender.core.signer.sign(word).envelope
        mail.outboxes.send(mail.sender, effects.Send(mail.receiver.peer_id, envelope, 0), NO_ROW)
    mail.network.run(100)
    assert [word for *_, word in mail.network.heard] == words


def test_what_is_lost_is_sent_again_after_pauses_that_double() -> None:
    mail = Mail()
    mail.network.lost[0] = 3
    mail.send()
    assert mail.heard(60_000) == [RESEND_MS * (1 + 2 + 4) + DELAY_MS]
    assert (mail.waiting, mail.outboxes.sent["Ready"]) == (0, 4)


def test_what_is_sent_once_is_not() -> None:
    mail = Mail()
    mail.network.lost[0] = 1
    mail.send(0)
    assert mail.heard(60_000) == []


def test_a_deadline_ends_it() -> None:
    mail = Mail()
    mail.network.go(1)
    mail.send(5_000)
    mail.network.run(10_000)
    mail.network.come_back(1)
    assert mail.heard(60_000) == []
    assert mail.waiting == 0
    assert mail.outboxes.sent["Ready"] == 0  # Nobody was there to connect to.
    assert mail.network.engine.next_tick() > 10**9


def test_one_that_is_away_is_reached_when_it_is_back() -> None:
    mail = Mail()
    mail.network.go(1)
    mail.send(3_600_000)
    mail.network.run(1_000_000)
    mail.network.come_back(1)
    (heard_ms,) = mail.heard(60_000)
    assert 1_000_000 < heard_ms <= 1_000_000 + RESEND_MS_MAX + DELAY_MS


def test_one_that_never_did_anything_is_reached_too() -> None:
    mail = Mail()
    mail.network.unmade.add(1)
    mail.send()
    mail.network.run(5_000)
    assert mail.waiting == 1
    mail.network.unmade.clear()
    assert len(mail.heard(60_000)) == 1
    assert mail.waiting == 0


def test_one_that_goes_before_it_arrives_gets_it_later() -> None:
    mail = Mail()
    mail.send()
    mail.network.run(3)
    mail.network.go(1)
    mail.network.run(100)
    assert mail.waiting == 1
    mail.network.come_back(1)
    assert len(mail.heard(60_000)) == 1


@pytest.mark.parametrize("durable", [True, False])
def test_a_sender_that_goes_sends_only_what_is_on_its_disk(durable: bool) -> None:
    mail = Mail()
    mail.network.go(1)
    mail.send(durable=durable)
    mail.network.run(100)
    mail.network.go(0)
    mail.network.come_back(1)
    assert mail.heard(30_000) == []
    mail.network.come_back(0)
    mail.outboxes.resume(mail.sender)
    assert len(mail.heard(30_000)) == durable
    assert mail.waiting == 0


def test_an_acknowledgement_that_finds_nobody_repeats_the_message() -> None:
    mail = Mail()
    mail.send()
    mail.network.run(3)
    mail.network.go(0)
    assert mail.heard(1_000) == [DELAY_MS]
    assert mail.waiting == 1
    mail.network.come_back(0)
    mail.outboxes.resume(mail.sender)
    assert len(mail.heard(30_000)) == 2
    assert mail.waiting == 0


def test_a_sender_away_sends_nothing_for_a_receiver_that_went() -> None:
    mail = Mail()
    mail.send()
    mail.network.run(3)
    mail.network.go(0)
    mail.network.go(1)
    mail.network.run(100)  # The message finds nobody, and its sender is not there to repeat it.
    mail.network.come_back(1)
    assert mail.heard(30_000) == []
    mail.network.come_back(0)
    mail.outboxes.resume(mail.sender)
    assert len(mail.heard(30_000)) == 1


def answered(mail: Mail) -> list[int]:
    return [at_ms for at_ms, number, event in mail.network.given
            if (number, event) == (0, inputs.PeerAnswered(mail.receiver.peer_id))]  # fmt: skip


def test_a_peer_that_is_there_answers_a_probe() -> None:
    mail = Mail()
    mail.probe()
    mail.network.run(10_000)
    assert answered(mail) == [2 * DELAY_MS]
    assert mail.heard() == [DELAY_MS]


def test_a_probe_is_repeated_until_its_deadline() -> None:
    mail = Mail()
    mail.network.lost[0] = 2
    mail.probe()
    mail.network.run(10_000)
    assert answered(mail) == [2 * RESEND_MS + 2 * DELAY_MS]
    gone = Mail()
    gone.network.go(1)
    gone.probe(5_000)
    gone.network.run(5_000)
    gone.network.come_back(1)
    gone.network.run(10_000)
    assert answered(gone) == []


def test_one_that_goes_before_the_probe_arrives_does_not_answer() -> None:
    mail = Mail()
    mail.probe(500)
    mail.network.run(3)
    mail.network.go(1)
    mail.network.run(10_000)
    assert answered(mail) == []


def test_an_answer_that_is_lost_is_none() -> None:
    mail = Mail()
    mail.network.lost[1] = 1
    mail.probe(500)
    mail.network.run(10_000)
    assert (answered(mail), mail.heard()) == ([], [DELAY_MS])


def test_a_receiver_that_goes_while_it_hears_gets_the_message_again() -> None:
    mail = Mail()
    hear = mail.network.hear

    def go(node: SimulatedNode, signed: Any, sender: int) -> None:
        hear(node, signed, sender)
        mail.network.go(1)

    mail.network.hear = go  # type: ignore[method-assign]
    mail.send()
    assert mail.heard(DELAY_MS + 1) == [DELAY_MS]
    assert mail.waiting == 1, "nothing says that it is on a disk"
    mail.network.hear = hear  # type: ignore[method-assign]
    mail.network.come_back(1)
    assert mail.heard(60_000) == [DELAY_MS, RESEND_MS + 2 * DELAY_MS]
    assert mail.waiting == 0


@pytest.mark.parametrize("behind_ms", [-50_000, 50_000])
def test_a_deadline_is_one_of_the_senders_clock(behind_ms: int) -> None:
    mail = Mail()
    mail.network.go(1)
    mail.sender.behind_ms = behind_ms
    mail.send(5_000)
    mail.network.run(10_000)
    mail.network.come_back(1)
    assert len(mail.heard(60_000)) == (behind_ms > 0)


def test_a_receiver_is_busy_with_one_message_after_the_other() -> None:
    mail = Mail()
    mail.network.processing = 30
    for _ in range(3):
        mail.send()
    assert mail.heard(1_000) == [DELAY_MS + 3, DELAY_MS + 6, DELAY_MS + 9]
    mail.send()
    assert mail.heard(1_000)[3:] == [1_000 + DELAY_MS + 3]


def test_what_a_receiver_has_not_processed_when_it_goes_comes_again() -> None:
    mail = Mail()
    mail.network.processing = 30
    mail.send()
    mail.network.run(DELAY_MS + 1)
    mail.network.go(1)
    mail.network.run(10)
    mail.network.come_back(1)
    again_ms = DELAY_MS + 3 + RESEND_MS
    assert mail.heard(60_000) == [again_ms + DELAY_MS + 3]
