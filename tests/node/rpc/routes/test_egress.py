"""The path of what jobs reached. Spec: specs/rpc.md#routes."""


async def test_egress(caller):
    answer = await caller.ask("GET", "/v1/egress?lease=cd&limit=5")
    assert answer.status == 200
    assert [(one["host"], one["refused"]) for one in answer.json] == [
        ("evil.org", "port 22 is not allowed")
    ]
    assert (await caller.ask("GET", "/v1/egress?lease=..")).status == 422
