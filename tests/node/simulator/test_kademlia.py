"""Kademlia in virtual time: tables as after convergence, and lookups that find what is there.

Spec: specs/validation.md#kademlia.
"""

from collections import Counter
from dataclasses import replace
from functools import lru_cache
from random import Random

import numpy as np
import pytest

from node.simulator.engine import TICKS_PER_MS, Engine
from node.simulator.kademlia import (
    ID_BITS,
    LIBP2P,
    PAPER,
    Kademlia,
    LookupResult,
    LookupRules,
    RoutingTables,
    make_tables,
)

WAY = 300
NODES = 400
RULES = pytest.mark.parametrize("rules", [PAPER, LIBP2P], ids=["paper", "libp2p"])


@lru_cache
def tables(nodes: int = NODES, k: int = 20) -> RoutingTables:
    return make_tables(nodes, k, 7)


def network(rules: LookupRules = PAPER, nodes: int = NODES) -> Kademlia:
    return Kademlia(Engine(), tables(nodes, rules.k), lambda one, other: WAY, rules)


def targets(count: int, nodes: int = NODES) -> list[tuple[int, int]]:
    """Return sources and targets."""
    chance = Random(3)
    return [(chance.randrange(nodes), chance.getrandbits(ID_BITS)) for _ in range(count)]


def run_all(net: Kademlia, count: int = 20) -> list[LookupResult]:
    return [net.run(source, target) for source, target in targets(count)]


def bucket_of(known: RoutingTables, one: int, other: int) -> int:
    return ID_BITS - (known.ids[one] ^ known.ids[other]).bit_length()


def entries_of(known: RoutingTables, number: int) -> list[int]:
    first, end = known.bounds[number * known.depth], known.bounds[(number + 1) * known.depth]
    return known.entries[first:end].tolist()


@pytest.mark.parametrize("k", [1, 5, 20])
def test_a_bucket_holds_k_of_those_that_belong_there_or_all(k):
    known = tables(200, k)
    for number in range(0, 200, 7):
        there = Counter(bucket_of(known, number, other) for other in range(200) if other != number)
        held = entries_of(known, number)
        assert len(set(held)) == len(held)
        wanted = {bucket: min(k, size) for bucket, size in there.items()}
        assert Counter(bucket_of(known, number, other) for other in held) == wanted


def test_each_node_of_a_bucket_is_as_likely_as_the_others():
    drawn = Counter[int]()
    for seed in range(200):
        known = make_tables(40, 5, seed)
        places = sorted(range(40), key=known.ids.__getitem__)
        drawn.update(places.index(other) for other in entries_of(known, places[0])[-400:]
                     if bucket_of(known, places[0], other) == 0)  # fmt: skip
    upper = [drawn[place] for place in range(25, 40)]
    assert sum(upper) > 700
    assert min(upper) > max(upper) / 2.5


def test_an_answer_names_the_closest_of_a_table_in_their_order():
    known = tables()
    for source, target in targets(100):
        held = entries_of(known, source)
        wanted = sorted(held, key=lambda other: known.ids[other] ^ target)
        for count in (1, 20, 70, len(held) + 1):
            assert known.closest(source, target, count) == wanted[:count]
    own = known.ids[5]
    wanted = sorted(entries_of(known, 5), key=lambda other: known.ids[other] ^ own)
    assert known.closest(5, own, 20) == wanted[:20]


def test_a_lookup_finds_the_k_closest_of_all():
    net = network()
    for source, target in targets(30):
        others = [number for number in range(NODES) if number != source]
        others.sort(key=lambda other: net.tables.ids[other] ^ target)
        result = net.run(source, target)
        assert result.closest == tuple(others[:20])
        assert result.found
        own = net.tables.closest(source, target, NODES)
        assert (result.hops == 1) == (others[0] in own)
        assert result.requests >= 20


@RULES
def test_lookups_are_repeatable_and_some_need_others(rules):
    results = run_all(network(rules))
    assert results == run_all(network(rules))
    assert all(result.found for result in results)
    assert max(result.hops for result in results) >= 2


def test_requests_are_as_parallel_as_the_rules_say():
    for rules in (PAPER, LIBP2P, replace(PAPER, parallel=1)):
        sent: list[int] = []
        net = network(rules)
        net.delay = lambda one, other: sent.append(net.engine.now) or WAY  # noqa: B023
        result = net.run(*targets(1)[0])
        per_tick = list(Counter(sent).values())
        assert per_tick[0] == max(per_tick) == rules.parallel
        assert len(sent) == result.requests
        assert result.ticks == 2 * WAY * len(per_tick)


def test_an_answer_makes_room_at_once_unless_requests_go_in_rounds():
    for rules, waits in ((replace(PAPER, parallel=2), False), (replace(LIBP2P, parallel=2), True)):
        sent: list[int] = []
        net = network(rules)
        ways = iter([10, 1_000])
        net.delay = lambda one, other: sent.append(net.engine.now) or next(ways, 10)  # noqa: B023
        net.run(*targets(1)[0])
        assert sent[2] == (2_000 if waits else 20)


@RULES
def test_nodes_that_are_away_cost_time_and_are_not_in_the_result(rules):
    net = network(rules)
    quick = run_all(net)
    net.online[np.arange(NODES) % 3 == 0] = False
    slow = run_all(net)
    assert sum(result.found for result in slow) >= 19
    named = 20 if rules is PAPER else 3  # Libp2p ends before it has asked all that it names.
    assert all(number % 3 for result in slow for number in result.closest[:named])
    timeout = rules.timeout_ms * TICKS_PER_MS
    assert all(result.ticks < timeout for result in quick)
    assert max(result.ticks for result in slow) > timeout


def test_a_node_that_goes_while_it_is_asked_does_not_answer():
    net, (source, target) = network(), targets(1)[0]
    first = net.tables.closest(source, target, 1)[0]
    results: list[LookupResult] = []
    net.look_up(source, target, results.append)
    net.engine.at(WAY - 1, net.online.__setitem__, first, False)
    net.engine.run(10**6)
    assert first not in results[0].closest
    assert results[0].ticks >= PAPER.timeout_ms * TICKS_PER_MS


@RULES
def test_a_lookup_among_the_dead_ends(rules):
    net = network(rules)
    net.online[:] = False
    result = net.run(1, 2)
    limit = (rules.limit_ms + rules.timeout_ms) * TICKS_PER_MS
    assert not result.found
    assert (result.closest, result.hops) == ((), 0)
    assert rules.parallel <= result.requests < NODES
    assert result.ticks <= limit


def test_liars_hide_honest_nodes_more_the_more_they_are():
    shares = []
    for percent in (0, 50, 90):
        net = network()
        net.liars[:] = np.arange(NODES) % 10 < percent / 10
        net.liars[[source for source, _ in targets(40)]] = False
        shares.append(sum(result.found for result in run_all(net, 40)) / 40)
    assert shares[0] == 1
    assert shares[0] > shares[2]
    assert shares[1] >= shares[2]


def test_liars_name_liars_alone():
    net = network()
    source, target = targets(1)[0]
    honest = entries_of(net.tables, source)[0]
    net.liars[:] = True
    net.liars[[source, honest]] = False
    asked: list[int] = []
    net.delay = lambda one, other: asked.append(other) or WAY
    net.run(source, target)
    outside = set(asked) - set(entries_of(net.tables, source))
    assert outside
    assert honest not in outside


def test_a_node_alone_finds_nobody():
    result = network(nodes=1).run(0, 5)
    assert result == LookupResult((), False, 0, 0, 0)


def test_many_nodes_need_few_bytes():
    known = make_tables(3_000, 20, 1)
    size = known.entries.nbytes + known.bounds.nbytes + known.keys.nbytes
    assert size < 3_000 * 1_000


def test_results_follow_from_the_seed_alone():
    known = make_tables(1_000, 20, 1)
    net = Kademlia(Engine(), known, lambda one, other: 100 + (one + other) % 50)
    result = net.run(3, known.ids[11])
    seen = result.closest[:3], result.hops, result.requests, result.ticks
    assert seen == ((11, 599, 71), 2, 22, 1942)


def test_whom_the_tables_have_dropped_nobody_names() -> None:
    made = tables()
    dropped = np.zeros(NODES, np.bool_)
    dropped[::2] = True
    for source, target in targets(20):
        all_of_them = made.closest(source, target, NODES)
        left = [number for number in all_of_them if number % 2]
        assert made.closest(source, target, 20, dropped) == left[:20]
        assert len(left) < len(all_of_them)
