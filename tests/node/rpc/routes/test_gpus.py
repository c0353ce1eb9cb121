"""The path of this machine's GPUs. Spec: specs/rpc.md#routes."""


async def test_gpus(caller):
    answer = await caller.ask("GET", "/v1/gpus")
    assert answer.status == 200
    assert [gpu["uuid"] for gpu in answer.json["gpus"]] == ["GPU-1"]
    assert answer.json["why"] == ""
