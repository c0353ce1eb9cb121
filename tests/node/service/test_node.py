"""A whole daemon as its owner sees it: status, peers, offers, sums, and its end.

Spec: specs/rpc.md#service.
"""

from tests.node.fixtures import ADA, BEA, until
from tests.node.local_node import LocalPair


async def test_money_counts_when_both_have_signed(pair: LocalPair) -> None:
    job = await pair.running()
    view = await pair.finish(job)
    assert view.amount == view.receipt.amount
    await until(lambda: pair.bea.node.service.status().earned == view.amount)
    await until(lambda: pair.ada.node.service.status().spent == view.amount)


async def test_status_counts_also_after_a_restart(pair: LocalPair) -> None:
    done = await pair.running()
    await pair.finish(done)
    failed = await pair.running()
    await pair.jobs.cancel(failed)
    await pair.phase(failed, "cancelled")
    await pair.running()
    for _ in range(2):
        # An event is on the disk before it counts.
        await until(lambda: pair.ada.node.service.status().jobs.running == 1)
        status = pair.ada.node.service.status()
        jobs = status.jobs
        assert (jobs.done, jobs.cancelled, jobs.running) == (1, 1, 1)
        assert jobs.announced + jobs.bids + jobs.failed == 0
        assert status.peers == 1
        await pair.ada.crash()
        await pair.network.start(pair.ada)
        await pair.network.acquainted()


async def test_offers_and_peers(pair: LocalPair) -> None:
    assert [peer.peer for peer in pair.ada.node.service.peers()] == [BEA.peer_id]
    service = pair.ada.node.service
    own, other = service.offers("", "", None)
    assert (own.peer, own.own, other.peer, other.own) == (ADA.peer_id, True, BEA.peer_id, False)
    assert (other.cpus, other.free, own.free is not None) == (4, None, True)
    assert (other.connected, own.connected, other.settled) == (True, False, False)
    assert [offer.peer for offer in service.offers("connected cpus=4", "", None)] == [BEA.peer_id]
    assert len(service.offers("", "cpus", 1)) == 1
    status = pair.bea.node.service.status()
    assert (status.provider.enabled, status.provider.driver) == (True, "obedient")
    pair.ada.node.service.request_stop()
    assert pair.ada.node.service.stop.is_set()
