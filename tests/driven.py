"""One machine driven by Hypothesis: any input at any time, always safe, and it ends without input.

Spec: specs/core.md#machines.
"""

from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from protocol.machines.context import Context, Policy
from protocol.machines.effects import Effect, Save, Send
from protocol.machines.inputs import DeadlineReached
from protocol.machines.table import Transitions, input_class, step
from protocol.rules.capacity import Capacity
from protocol.values.ids import PeerId
from protocol.wire.envelope import Signed, Signer, open_envelope
from protocol.wire.messages import Message, Prices
from protocol.wire.snapshot import from_snapshot, to_snapshot
from tests.strategies import SIGNERS

START_MS = 1_800_000_000_000
POLICY = Policy(True, Capacity(4, 4_096, 50_000), Prices(cpu=1_000), driver="embedded")


class Driven(RuleBasedStateMachine):
    """A machine, its clock, and all its effects."""

    table: ClassVar[Transitions]
    union: ClassVar[Any]
    written_first: ClassVar[tuple[type, ...]]
    """Messages that must follow a save in the same step."""
    silent_steps_max: ClassVar[int] = 12

    def __init__(self) -> None:
        super().__init__()
        self.signer: Signer = SIGNERS[0]
        self.now_ms = START_MS
        self.policy = POLICY
        self.state: Any = None
        self.effects: list[Effect] = []
        self.sent: list[tuple[PeerId, Message]] = []
        """Without repetitions."""
        self.said: set[tuple[PeerId, bytes]] = set()

    @property
    def context(self) -> Context:
        return Context(self.now_ms, self.signer, self.policy)

    @property
    def over(self) -> bool:
        return not hasattr(self.state, "deadline_ms")

    # Events that are always possible.

    @precondition(lambda self: not self.over)
    @rule(ms=st.integers(0, 20_000))
    def time_passes(self, ms: int) -> None:
        """Advance the time to less than the deadline; the timer may fire early."""
        self.now_ms = max(self.now_ms, min(self.now_ms + ms, self.state.deadline_ms - 1))

    @precondition(lambda self: not self.over)
    @rule(late_ms=st.sampled_from([0, 0, 0, 0, 3, 100_000]))
    def deadline_is_reached(self, late_ms: int) -> None:
        self.now_ms = max(self.now_ms, self.state.deadline_ms) + late_ms
        self.take(DeadlineReached())
        assert self.over or self.state.deadline_ms > self.now_ms, "never sleeps"

    def teardown(self) -> None:
        """Liveness: without further input, deadlines alone end everything."""
        for _ in range(self.silent_steps_max):
            if self.over or self.state is None:
                return
            self.deadline_is_reached(0)
        raise AssertionError(f"{type(self.state).__name__} waits for ever")

    # One step and its invariants.

    def take(self, event: Any) -> tuple[Effect, ...]:
        before = self.state
        known = (type(before), input_class(event)) in self.table
        self.begin(*step(self.table, before, event, self.context))
        effects = self.effects[self.mark:]  # fmt: skip
        assert known or (self.state is before and not effects), "an ignored input did something"
        return tuple(effects)

    def begin(self, state: Any, effects: tuple[Effect, ...]) -> None:
        """Adopt the result of a step."""
        self.mark = len(self.effects)
        overdue = getattr(self.state, "deadline_ms", None)  # As after a restart.
        self.state, written = state, False
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Save):
                written = True
                self.check_save(effect)
            elif isinstance(effect, Send):
                if (effect.peer, effect.envelope) in self.said:
                    continue  # A repetition has the same bytes, and was saved.
                self.said.add((effect.peer, effect.envelope))
                message = self.message_of(effect)
                assert written or not isinstance(message, self.written_first), "sent, not saved"
                assert effect.until_ms == 0 or effect.until_ms > self.now_ms
                self.sent.append((effect.peer, message))
        if not self.over and self.state.deadline_ms != overdue:
            assert self.state.deadline_ms >= self.now_ms, "a deadline in the past"

    def check_save(self, effect: Save) -> None:
        """Assert that the saved state is the current one and survives the round trip."""
        if effect.state is None:
            assert self.over
        else:
            assert effect.state == self.state
            assert from_snapshot(self.union, to_snapshot(effect.state)) == effect.state

    def message_of(self, send: Send) -> Message:
        return open_envelope(send.envelope, self.signer.network_id, self.signer.peer_id).message

    def sent_of(self, *classes: type) -> list[Any]:
        return [message for _, message in self.sent if isinstance(message, classes)]


def signed_by(number: int, message: Message) -> Signed[Any]:
    """Return a message of one of the other peers; number 0 is ourselves."""
    return SIGNERS[number].sign(message)
