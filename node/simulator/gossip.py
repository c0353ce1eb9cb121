"""Gossip in two fidelities: computed at once (flow), or message by message.

Both bring a call to the nodes that its lottery draws; the others would ignore it, so no core is
asked. Where nothing is lost, nobody cheats and nobody goes while a call spreads, both do the same:
each call reaches each node in the same tick, and the calls of one tick are delivered after all else
that happens in it, in the order of the nodes' numbers.
Spec: specs/simulation.md#gossip.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.mesh import Mesh
from node.simulator.node import SimulatedNode
from node.simulator.overlay import UNREACHED, Delays, Overlay, make_overlay
from node.simulator.population import Population
from node.simulator.seeds import bits, stream
from protocol.rules.selection import drawn_among, is_invited
from protocol.values.ids import CallId
from protocol.wire.envelope import Signed
from protocol.wire.messages import Call

HEARTBEAT_TICKS: Final = 10_000
"""How often a node tells others what it has: once a second."""
MILLION: Final = 10**6
Deliver = Callable[[int, Signed[Any], int], None]
"""Gives a node a message; the last argument is its author."""


@dataclass(slots=True)
class GossipTraffic:
    """What gossip cost."""

    published: int = 0
    transmissions: int = 0
    """Copies that were sent, also to nodes that are gone."""
    duplicates: int = 0
    """Copies that their receiver had already."""


@dataclass(slots=True)
class _Topic:
    overlay: Overlay
    degrees: NDArray[np.int64]
    encoded: list[bytes]
    """The peer ids of the members, as lotteries take them."""
    numbers: list[int]
    mesh: Mesh | None = None
    """For the fidelity in which it changes."""


class TopicGossip(ABC):
    """What both fidelities have in common: overlays, lotteries, and the author's own messages."""

    def __init__(
        self, engine: Engine, population: Population, deliver: Deliver, degree: int, seed: int
    ) -> None:
        self._awake: Collection[int] = ()
        self._engine = engine
        self._population = population
        self._deliver = deliver
        self._degree = degree
        self._seed = seed
        self._topics: dict[str, _Topic] = {}
        self.connections = min(64, len(population.providers))
        """With how many nodes that lend an author is connected: it sends to all of them."""
        self.captors: Mapping[int, Sequence[int]] = {}
        """Who holds all connections of an author, for those of whom others do."""
        self.traffic = GossipTraffic()

    def watch(self, awake: Collection[int]) -> None:
        """Take the numbers of the nodes that have a core, as they are at any time."""
        self._awake = awake

    def publish(self, author: SimulatedNode, topic: str, envelope: bytes) -> None:
        """Bring a call to those that may bid. Records are known to all: see the directory."""
        signed = self._population.identities.open(envelope, author.peer_id)
        if not isinstance(signed.message, Call):
            return
        known = self._topic(topic)
        if len(known.overlay.members) == 0:
            return
        self.traffic.published += 1
        call_id, lottery = CallId(signed.content_id), signed.message.lottery
        drawn = drawn_among(call_id, known.encoded, lottery) + self._invited(signed.message, known)
        places = np.unique(np.array(drawn, np.intp))
        captors = self.captors.get(author.number)
        if captors is None:
            self._spread(author.number, signed, known, places)
        else:
            self._tell_captors(author.number, signed, known.overlay.members[places], captors)

    def _tell_captors(
        self, author: int, signed: Signed[Any], drawn: NDArray[np.int64], captors: Sequence[int]
    ) -> None:
        """Bring a message to those that hold all connections of its author; they forward none."""
        self.traffic.transmissions += len(captors)
        told = drawn[np.isin(drawn, captors) & self._population.online[drawn]]
        ticks = self._delays(np.full(len(told), author), told).tolist()
        serial, now = self.traffic.published, self._engine.now
        for number, tick in zip(told.tolist(), ticks, strict=True):
            self._engine.last(now + tick, (number, serial), self._deliver, number, signed, author)

    def _invited(self, call: Call, topic: _Topic) -> list[int]:
        """Return the places of the members that a call invites; they have answered before."""
        if not call.invited:
            return []
        peer_of, members = self._population.identities.peer_of, topic.overlay.members
        invited = np.array([each for each in self._awake if is_invited(call, peer_of(each))])
        places = np.searchsorted(members, invited)
        return [
            place for place, number in zip(places.tolist(), invited.tolist(), strict=True)
            if place < len(members) and members[place] == number
        ]  # fmt: skip

    @abstractmethod
    def _spread(
        self, author: int, signed: Signed[Any], topic: _Topic, drawn: NDArray[np.intp]
    ) -> None:
        """Bring a message to all members of a topic; those drawn get it delivered."""

    def _firsts(self, author: int, overlay: Overlay) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Return the places to which an author sends, and when they get it."""
        members = overlay.members
        drawn = bits(self._seed, f"connections/{author}", self.connections)
        places = np.unique((drawn % np.uint64(len(members))).astype(np.intp))
        places = places[self._population.online[members[places]]]
        authors = np.full(len(places), author, np.int64)
        arrivals = self._engine.now + self._delays(authors, members[places]).astype(np.int64)
        return places, arrivals

    def _topic(self, name: str) -> _Topic:
        found = self._topics.get(name)
        if found is None:
            members = self._members(name)
            overlay = make_overlay(members, self._degree, self._delays, self._seed, name)
            peer_of = self._population.identities.peer_of
            numbers = members.tolist()
            encoded = [peer_of(number).encode() for number in numbers]
            found = _Topic(overlay, overlay.degrees(), encoded, numbers)
            self._topics[name] = found
        return found

    def _members(self, name: str) -> NDArray[np.int64]:
        """Return the numbers of the nodes that subscribe to a topic."""
        return self._population.subscribers(name)

    @property
    def _delays(self) -> Delays:
        return self._population.links.ticks


class FlowGossip(TopicGossip):
    """Computes when a message arrives everywhere; exact if nothing is lost."""

    def _spread(
        self, author: int, signed: Signed[Any], topic: _Topic, drawn: NDArray[np.intp]
    ) -> None:
        overlay = topic.overlay
        online = self._population.online[overlay.members]
        places, arrivals = self._firsts(author, overlay)
        first = np.full(len(overlay.members), UNREACHED)
        first[places] = arrivals
        first = overlay.flood(first, None if online.all() else online)
        reached = first < UNREACHED
        # All send to their neighbours, but not back to the one from which they have it.
        have, from_author = int(reached.sum()), int((first[places] == arrivals).sum())
        sent = int(topic.degrees[reached].sum()) - (have - from_author) + len(places)
        in_vain = 0 if online.all() else overlay.count_links(reached, ~online)
        self.traffic.transmissions += sent
        self.traffic.duplicates += sent - have - in_vain
        drawn = drawn[reached[drawn]]
        numbers = overlay.members[drawn].tolist()
        serial, last, deliver = self.traffic.published, self._engine.last, self._deliver
        for tick, number in zip(first[drawn].tolist(), numbers, strict=True):
            last(tick, (number, serial), deliver, number, signed, author)


class MessageGossip(TopicGossip):
    """Forwards message by message: some are lost, some nodes forward none, and others make up.

    As in GossipSub 1.1 a node forwards the first copy to its mesh at once, and tells a few others
    at its next heartbeat what it has; those that miss it ask for it (IHAVE, IWANT). One heartbeat
    later it judges its neighbours by it: see mesh.py.
    """

    loss_ppm = 0
    lazy = 6
    """How many nodes hear at a heartbeat what one has."""
    scoring = True
    """Whether a neighbour that is of no use loses its place."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._chance = stream(self._seed, "gossip/loss")
        self.silent: frozenset[int] = frozenset()
        """The numbers of nodes that forward nothing."""
        self.forging: frozenset[int] = frozenset()
        """Those of nodes that forward invalid copies instead."""

    def _spread(
        self, author: int, signed: Signed[Any], topic: _Topic, drawn: NDArray[np.intp]
    ) -> None:
        count = len(topic.overlay.members)
        wanted = bytearray(count)
        for place in drawn.tolist():
            wanted[place] = 1
        told = signed, author, self.traffic.published
        mesh = self._mesh(topic)
        judged: dict[int, list[int]] | None = {} if self._is_hurt and self.scoring else None
        message = _Spreading(told, topic.numbers, mesh, bytearray(count), wanted, judged)
        places, arrivals = self._firsts(author, topic.overlay)
        for place, tick in zip(places.tolist(), arrivals.tolist(), strict=True):
            if not self._loses():
                self._engine.at(tick, self._receive, message, place, -1)
        self.traffic.transmissions += len(places)

    @property
    def _is_hurt(self) -> bool:
        """Whether a node may miss a message that others forward; otherwise nobody is judged."""
        return bool(self.loss_ppm or self.silent or self.forging)

    def _mesh(self, topic: _Topic) -> Mesh:
        if topic.mesh is None:
            chance = stream(self._seed, f"gossip/mesh {len(self._topics)}")
            topic.mesh = Mesh(topic.overlay, self._delays, self._degree, chance)
        return topic.mesh

    def _receive(self, message: "_Spreading", place: int, sender: int) -> None:
        seen, traffic = message.seen, self.traffic
        if seen[place]:
            traffic.duplicates += 1
            message.note(place, sender)
            return
        number = message.numbers[place]
        if not self._population.online[number]:
            return
        seen[place] = 1
        message.note(place, sender)
        now = self._engine.now
        if message.wanted[place]:
            signed, author, serial = message.told
            self._engine.last(now, (number, serial), self._deliver, number, signed, author)
        if number in self.silent:
            return
        if number in self.forging:
            self._forge(message, place, sender)
            return
        self._forward(message, place, sender)
        if self._is_hurt:
            heartbeat = now + 1 + (place - now - 1) % HEARTBEAT_TICKS
            self._engine.at(heartbeat, self._tell, message, place)
            if message.came_from is not None:
                self._engine.at(heartbeat + HEARTBEAT_TICKS, self._review, message, place)

    def _forward(self, message: "_Spreading", place: int, sender: int) -> None:
        """Send the first copy to all neighbours but the one that it came from."""
        seen, traffic, now, at = message.seen, self.traffic, self._engine.now, self._engine.at
        neighbours, delays = message.mesh.rows[place]
        receive, loses = self._receive, self._loses if self.loss_ppm else None
        for neighbour, delay in zip(neighbours, delays, strict=True):
            if neighbour == sender or (loses and loses()):
                continue
            if seen[neighbour]:  # When it arrives, it will still be a duplicate.
                traffic.duplicates += 1
                message.note(neighbour, place)
            else:
                at(now + delay, receive, message, neighbour, place)
        traffic.transmissions += len(neighbours) - (sender in neighbours)

    def _forge(self, message: "_Spreading", place: int, sender: int) -> None:
        """Send an invalid copy to all neighbours but the one that the valid one came from."""
        for neighbour, delay in zip(*message.mesh.rows[place], strict=True):
            if neighbour != sender:
                self.traffic.transmissions += 1
                if not self._loses():
                    self._engine.after(delay, self._reject, message, neighbour, place)

    def _reject(self, message: "_Spreading", place: int, sender: int) -> None:
        if self.scoring and self._population.online[message.numbers[place]]:
            message.mesh.blame(place, sender, self._engine.now // TICKS_PER_MS)

    def _review(self, message: "_Spreading", place: int) -> None:
        """Let a node judge its neighbours by a message, and see that it has enough of them."""
        online, now_ms = self._population.online, self._engine.now // TICKS_PER_MS
        assert message.came_from is not None
        came_from = message.came_from.pop(place, [])
        if online[message.numbers[place]]:
            message.mesh.review(place, came_from, now_ms)
            message.mesh.mend(place, online, now_ms)

    def _tell(self, message: "_Spreading", place: int) -> None:
        """Tell some others at a heartbeat; one that misses the message then asks for it."""
        if not self._population.online[message.numbers[place]]:
            return
        for _ in range(self.lazy):
            other = self._chance.randrange(len(message.seen))
            if not message.seen[other] and not self._loses():
                pair = np.array([message.numbers[place]]), np.array([message.numbers[other]])
                delay = int(self._delays(*pair)[0])
                self._engine.after(delay, self._ask, message, other, place, delay)

    def _ask(self, message: "_Spreading", place: int, other: int, delay: int) -> None:
        if not message.seen[place]:
            self.traffic.transmissions += 1
            if not self._loses():
                self._engine.after(2 * delay, self._receive, message, place, other)

    def _loses(self) -> bool:
        return self.loss_ppm > 0 and self._chance.randrange(MILLION) < self.loss_ppm


@dataclass(slots=True)
class _Spreading:
    """A message on its way through an overlay; all lists are by place."""

    told: tuple[Signed[Any], int, int]
    """The message, its author, and how many were published before and with it."""
    numbers: list[int]
    mesh: Mesh
    seen: bytearray
    wanted: bytearray
    came_from: dict[int, list[int]] | None
    """From whom each has a copy, or will have one; None if nobody judges."""

    def note(self, place: int, sender: int) -> None:
        """Note that a member has a copy from another."""
        if self.came_from is not None:
            self.came_from.setdefault(place, []).append(sender)
