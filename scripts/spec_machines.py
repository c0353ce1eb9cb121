"""Draws the machines of the protocol: their states, their tables, and where each row leads.

The tables say which function moves which state; the state that follows is read off the source of
that function and of what it calls.
Spec: specs/README.md#generated-parts.
"""

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, get_args

from protocol.machines import provider, requester
from protocol.machines.table import Pairs

MACHINES: Final[dict[str, tuple[Any, Any]]] = {
    "auction": (requester.auction, requester.auction.open_auction),
    "award": (requester.award, requester.award.begin),
    "bidding": (provider.bidding, provider.bidding.answer_call),
    "requester-lease": (requester.lease, requester.lease.begin),
    "provider-lease": (provider.lease, provider.lease.hold_award),
}
"""The machines, each with the function that makes its first state."""


def diagram(name: str) -> Iterator[str]:
    """Draw the states of a machine and the inputs that lead from one to another."""
    machine, opener = MACHINES[name]
    states = get_args(machine.State)
    edges: dict[tuple[str, str], list[str]] = {}
    for (state, event), transition in machine.TRANSITIONS.items():
        for target in targets(transition, state, states):
            if target is not state:
                edges.setdefault((state.__name__, target.__name__), []).append(event.__name__)
    yield "```mermaid"
    yield "stateDiagram-v2"
    for target in targets(opener, types.NoneType, states):
        if target.__name__ != "Over":
            yield f"    [*] --> {target.__name__}"
    for (source, following), causes in edges.items():
        yield f"    {source} --> {following}: {', '.join(causes)}"
    moving = {state for state, _ in machine.TRANSITIONS}
    yield from (f"    {one.__name__} --> [*]" for one in states if one not in moving)
    yield "```"


def states(name: str) -> Iterator[str]:
    """Draw the table of a machine's states."""
    rows = ((f"`{s.__name__}`", doc(s)) for s in get_args(MACHINES[name][0].State))
    yield from table(("state", "meaning"), rows)


def transitions(name: str) -> Iterator[str]:
    """Draw the transition table of a machine."""
    machine, _ = MACHINES[name]
    states = get_args(machine.State)
    rows = (
        (f"`{state.__name__}`", f"`{event.__name__}`", doc(transition),
         ", ".join(_arrow(target, state) for target in targets(transition, state, states)))
        for (state, event), transition in machine.TRANSITIONS.items()
    )  # fmt: skip
    yield from table(("state", "input", "what the machine does", "next state"), rows)


def unmoved(name: str) -> Iterator[str]:
    """Draw the pairs of a machine that change nothing, by the reason for it."""
    machine, _ = MACHINES[name]
    rows = (
        (kind, reason, _in_words(machine, pairs))
        for kind, groups in (("ignored", machine.IGNORED), ("illegal", machine.ILLEGAL))
        for reason, pairs in groups.items()
    )
    yield from table(("kind", "why", "states: inputs"), rows)


def _in_words(machine: Any, pairs: Pairs) -> str:
    """Return pairs in the order of the machine, the states that have the same inputs together."""
    states_of: dict[tuple[type, ...], list[str]] = {}
    for state in get_args(machine.State):
        inputs = tuple(event for event in machine.INPUTS if (state, event) in pairs)
        if inputs:
            states_of.setdefault(inputs, []).append(f"`{state.__name__}`")
    return "; ".join(
        f"{', '.join(states)}: " + _inputs_in_words(inputs, machine)
        for inputs, states in states_of.items()
    )


def _inputs_in_words(inputs: tuple[type, ...], machine: Any) -> str:
    if inputs == machine.INPUTS:
        return "every input"
    return ", ".join(f"`{event.__name__}`" for event in inputs)


def _arrow(target: type, state: type) -> str:
    return "the same" if target is state else f"`{target.__name__}`"


def targets(function: Callable[..., Any], state: type, states: tuple[type, ...]) -> list[type]:
    """Return the states that a transition may lead to: those that it, or what it calls, makes."""
    found: set[type] = set()
    pending: list[Any] = [function]
    seen: set[Any] = {function}
    while pending:
        current = pending.pop()
        tree = ast.parse(textwrap.dedent(inspect.getsource(current)))
        for node in ast.walk(tree):
            if _stays(node):
                found.add(state)
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            called = current.__globals__.get(node.func.id)
            if called in states:
                found.add(called)
            elif _is_of_machines(called) and called not in seen:
                seen.add(called)
                pending.append(called)
    return [one for one in states if one in found]


def _stays(node: ast.AST) -> bool:
    """Say whether the code gives back the state it got, or a changed copy of it."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id == "replace" and _is_state(node.args[0])
    if isinstance(node, ast.IfExp):
        return _stays(ast.Return(node.body)) or _stays(ast.Return(node.orelse))
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        return _is_state(node.value.elts[0])
    return False


def _is_state(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "state"


def _is_of_machines(called: Any) -> bool:
    return inspect.isfunction(called) and called.__module__.startswith("protocol.machines")


def doc(thing: Any) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Yield the lines of a table in markdown; a column without any content is left out."""
    body = [tuple(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    used = [i for i in range(len(heads)) if any(row[i] for row in body)]
    yield "| " + " | ".join(heads[i] for i in used) + " |"
    yield "|" + "---|" * len(used)
    yield from ("| " + " | ".join(row[i] for i in used) + " |" for row in body)
