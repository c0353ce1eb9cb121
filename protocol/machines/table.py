"""The common part of all machines: a table from state and input to a transition.

Spec: specs/core.md#machines. A table is total: every pair of a state and an input is written once,
as a transition, as ignored or as illegal. What is ignored comes from honest peers too, since
messages are late, repeated and overtake each other; what is illegal never does.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, Final, TypeVar

from protocol.machines.context import Context
from protocol.machines.effects import Effect
from protocol.wire.envelope import Signed

S = TypeVar("S")
Transition = Callable[[Any, Any, Context], tuple[Any, tuple[Effect, ...]]]
Transitions = Mapping[tuple[type, type], Transition]
Pairs = frozenset[tuple[type, type]]
Groups = Mapping[str, Pairs]
"""Pairs that change nothing, by the reason for it."""
NOTHING: Final[tuple[Effect, ...]] = ()


def input_class(event: object) -> type:
    """Return the class under which tables list an input: for a signed message, the message's."""
    return type(event.message) if isinstance(event, Signed) else type(event)


def step(
    transitions: Transitions, state: S, event: object, context: Context
) -> tuple[S, tuple[Effect, ...]]:
    """Apply one input to a machine. An input without a transition changes nothing."""
    transition = transitions.get((type(state), input_class(event)))
    if transition is None:
        return state, NOTHING
    following: S
    following, effects = transition(state, event, context)
    return following, effects


def count_illegal(
    counts: dict[str, int], machine: str, illegal: Groups, state: object, event: object
) -> None:
    """Count an input if it is illegal, under the names of machine, state and input.

    There are at most as many counts as illegal pairs, whatever peers send.
    """
    pair = type(state), input_class(event)
    if any(pair in group for group in illegal.values()):
        key = f"{machine} {pair[0].__name__} {pair[1].__name__}"
        counts[key] = counts.get(key, 0) + 1


def pairs(states: Iterable[type], inputs: Iterable[type]) -> Pairs:
    """Return every pair of one of the states and one of the inputs."""
    return frozenset(product(states, inputs))


def no_later(state: Any, longest_ms: int, context: Context) -> Any:
    """Return a state whose deadline is at most its longest duration away.

    For use after a restart: our clock may have been set back since the deadline was saved.
    """
    return replace(state, deadline_ms=min(state.deadline_ms, context.now_ms + longest_ms))
