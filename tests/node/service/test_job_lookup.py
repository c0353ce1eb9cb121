"""Jobs by what their user calls them. Spec: specs/rpc.md#routes, specs/arrays.md#identity."""

from types import SimpleNamespace

import pytest

from node.service import jobs as jobs_module
from protocol.values.errors import Conflict, NotFound
from tests.node.fixtures import spec_of
from tests.node.local_node import LocalPair


async def test_references(pair: LocalPair, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter([b"\xaa\xbb\xcc\xdd" + bytes(12), b"\xaa\xbb\xcc\xee" + bytes(12)])
    chance = SimpleNamespace(token_bytes=lambda _: next(ids))
    monkeypatch.setattr(jobs_module, "secrets", chance)
    first, second = await pair.submit(), await pair.submit()
    assert (await pair.jobs.get(first.upper())).id == first
    assert (await pair.jobs.get("aabbccd")).id == first
    assert (await pair.jobs.get("aabbcce")).id == second
    with pytest.raises(NotFound, match="2 jobs begin"):
        await pair.jobs.get("aabbcc")
    for unknown in ("aabb", "ffffff", "", "no hex at all"):
        with pytest.raises(NotFound, match="`mutirao jobs`"):
            await pair.jobs.get(unknown)


async def test_references_of_an_array_and_of_its_members(pair: LocalPair) -> None:
    spec = spec_of(await pair.ada.node_folder.workload())
    array = (await pair.jobs.submit_array([spec] * 2, [3, 300])).id
    lookup = pair.jobs._lookup
    for reference in (array, array[:6], array.upper()):
        assert (await lookup.first(reference)).spec.index == 3
        with pytest.raises(Conflict, match="name one of its jobs"):
            await lookup.one(reference)
    member = await lookup.one(f"{array[:6]}[300]")
    assert member.job_id.hex() == f"{array}0000012c"
    assert await lookup.one(member.job_id.hex()) == member
    for unknown in (f"{array}[4]", f"{array}[9999999999]"):
        with pytest.raises(NotFound, match="lists the members"):
            await lookup.one(unknown)
    single = await pair.submit()
    with pytest.raises(NotFound, match="lists the members"):
        await lookup.one(f"{single}[0]")
