"""What jobs reached, from the log to the view. Spec: specs/egress.md#log."""

from pathlib import Path

from node.egress.log import EgressLog
from node.egress.proxy import ProxyUse
from node.rpc.egress_views import ReachedView
from node.service.egress import EgressService
from tests.node.fixtures import ADA, LEASE


async def test_the_view_is_that_of_the_log(tmp_path: Path) -> None:
    log = EgressLog(tmp_path, lambda: 7)
    log.note(LEASE, ADA.peer_id, ProxyUse("a.org", 443, 2, 3))
    assert await EgressService(log).reached("", 9) == (
        ReachedView(LEASE.hex(), ADA.peer_id, "a.org", 443, "", 1, 2, 3, 7, 7),
    )
