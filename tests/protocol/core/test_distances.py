"""Which providers are too far from each other, as both ends measured.

Spec: specs/gangs.md#measured-round-trips.
"""

from itertools import combinations, permutations

from hypothesis import given
from hypothesis import strategies as st

from protocol.core.distances import Distances
from protocol.machines.requester.award import Measuring, Placement
from protocol.values.ids import CallId, ContentId, JobId, LeaseId, PeerId
from protocol.values.limits import DISTANCE_MS, DISTANCES_MAX
from tests.driven import START_MS
from tests.strategies import SIGNERS

PEERS = [signer.peer_id for signer in SIGNERS]
LIMIT_US = 20_000
NEAR, FAR, UNMEASURED = 7_000, 83_000, 0


def measured(
    took: dict[tuple[int, int], int], nodes: int = 3, peers: list[PeerId] = PEERS
) -> list[Measuring]:
    """Return the members of a gang, one on each peer; what is not given was near."""
    members = tuple(peers[:nodes])
    found = []
    for number, peer in enumerate(members):
        placement = Placement(
            JobId(bytes([number]) * 16), 0, CallId(bytes(32)), peer, LeaseId(bytes(32)),
            ContentId(bytes(32)), 1, 1, 1, members=members, max_round_trip_us=LIMIT_US,
        )  # fmt: skip
        others = (other for other in range(nodes) if other != number)
        round_trips = tuple(took.get((number, other), NEAR) for other in others)
        found.append(Measuring(placement, 0, ContentId(bytes(32)), round_trips))
    return found


def are_far(distances: Distances, one: int, other: int, limit_us: int = LIMIT_US) -> bool:
    return distances.are_far(PEERS[one], [PEERS[other]], limit_us)


def test_all_are_near() -> None:
    distances = Distances()
    assert distances.note(measured({(0, 1): LIMIT_US}), START_MS) == ""
    assert distances.to_avoid(LIMIT_US, b"") == ()


def test_the_longer_of_two_measurements_counts_whoever_made_it() -> None:
    for ends in ((0, 1), (1, 0)):
        distances = Distances()
        why = distances.note(measured({ends: FAR}), START_MS)
        one, other = sorted(PEERS[:2])
        assert why == (
            f"the round trip between …{one[-8:]} and …{other[-8:]} is 83.000 ms;"
            " the job wants at most 20 ms"
        )
        assert are_far(distances, 0, 1)
        assert are_far(distances, 1, 0)
        assert not are_far(distances, 0, 2)
        assert not are_far(distances, 0, 1, limit_us=FAR)
        assert not are_far(distances, 0, 1, limit_us=0), "no limit"


def test_a_pair_that_one_could_not_measure_is_too_far_for_any_limit() -> None:
    for ends in ((0, 1), (1, 0)):
        distances = Distances()
        assert "could not be measured" in distances.note(measured({ends: UNMEASURED}), START_MS)
        assert are_far(distances, 0, 1, limit_us=10**9)


def test_what_was_too_far_is_forgotten_after_some_minutes() -> None:
    distances = Distances()
    distances.note(measured({(0, 1): FAR}), START_MS)
    distances.note(measured({(1, 2): FAR}), START_MS + 1_000)
    distances.expire(START_MS + DISTANCE_MS)
    assert not are_far(distances, 0, 1)
    assert are_far(distances, 1, 2)
    distances.expire(START_MS + DISTANCE_MS + 1_000)
    assert not are_far(distances, 1, 2)


def test_a_bounded_number_of_pairs_is_remembered() -> None:
    distances = Distances()
    far = dict.fromkeys(permutations(range(64), 2), FAR)
    for batch in range(3):
        peers = [PeerId(f"{PEERS[0][:40]}{batch:06}{number:06}") for number in range(64)]
        distances.note(measured(far, 64, peers), START_MS)
    assert len(distances._known) == DISTANCES_MAX
    assert distances.are_far(peers[0], peers[1:], LIMIT_US), "the newest are kept"


def test_who_is_far_from_most_is_left_out_first() -> None:
    distances = Distances()
    distances.note(measured({(0, 1): FAR, (0, 2): FAR, (0, 3): FAR}, nodes=4), START_MS)
    assert distances.to_avoid(LIMIT_US, b"any") == (PEERS[0],)


def test_of_two_equal_sides_either_may_be_left_out() -> None:
    distances = Distances()
    far = {(one, other): FAR for one in (0, 1) for other in (2, 3)}
    distances.note(measured(far, nodes=4), START_MS)
    found = {distances.to_avoid(LIMIT_US, bytes([seed])) for seed in range(32)}
    assert found == {tuple(sorted(PEERS[:2])), tuple(sorted(PEERS[2:4]))}


def gang_of(distances: Distances, took: dict[tuple[int, int], int], *numbers: int) -> None:
    """Let some of the peers measure; `took` is by their places in SIGNERS."""
    peers = [PEERS[number] for number in numbers]
    own = {
        (a, b): took.get((numbers[a], numbers[b]), NEAR)
        for a, b in permutations(range(len(numbers)), 2)
    }
    distances.note(measured(own, len(numbers), peers), START_MS)


def test_who_is_near_to_one_that_is_far_from_another_is_far_from_it_too() -> None:
    distances = Distances()
    gang_of(distances, {}, 0, 1)
    gang_of(distances, {(1, 2): FAR, (2, 1): FAR}, 1, 2)
    assert are_far(distances, 0, 2), "83 ms less 7 ms"
    assert not are_far(distances, 0, 2, limit_us=76_000)
    assert distances.to_avoid(LIMIT_US, b"any") == (PEERS[2],)
    gang_of(distances, {}, 0, 2)
    assert not are_far(distances, 0, 2), "what they measured themselves counts more"


def test_a_third_that_lies_does_not_part_others() -> None:
    for lie in ({(1, 2): FAR}, {(1, 0): 1, (1, 2): 10**6}, {(1, 2): UNMEASURED}):
        distances = Distances()
        gang_of(distances, lie, 0, 1)
        gang_of(distances, lie, 1, 2)
        assert not are_far(distances, 0, 2)


@given(
    st.lists(st.integers(0, 3), min_size=len(SIGNERS), max_size=len(SIGNERS)),
    st.lists(st.sets(st.integers(0, len(SIGNERS) - 1), min_size=2, max_size=4), max_size=8),
    st.binary(max_size=4),
)
def test_what_is_left_are_whole_clusters(
    clusters: list[int], gangs: list[set[int]], seed: bytes
) -> None:
    """Of nodes in clusters, nobody is taken for far that is near."""
    distances = Distances()
    far = {(a, b): FAR for a, b in permutations(range(len(SIGNERS)), 2)
           if clusters[a] != clusters[b]}  # fmt: skip
    for gang in gangs:
        gang_of(distances, far, *gang)
    for one, other in combinations(range(len(SIGNERS)), 2):
        if are_far(distances, one, other):
            assert clusters[one] != clusters[other]
    avoided = set(distances.to_avoid(LIMIT_US, seed))
    left = [number for number, peer in enumerate(PEERS) if peer not in avoided]
    assert not any(are_far(distances, *pair) for pair in combinations(left, 2))


PAIRS = list(combinations(range(len(SIGNERS)), 2))


@given(st.sets(st.sampled_from(PAIRS)), st.binary(max_size=4))
def test_without_those_left_out_nobody_is_too_far(far: set[tuple[int, int]], seed: bytes) -> None:
    distances = Distances()
    distances.note(measured(dict.fromkeys(far, FAR), nodes=len(SIGNERS)), START_MS)
    avoided = set(distances.to_avoid(LIMIT_US, seed))
    left = [peer for peer in PEERS if peer not in avoided]
    assert left, "a node alone is near to itself"
    assert not any(distances.are_far(peer, left, LIMIT_US) for peer in left)
    assert len(avoided) <= len(far)
