"""The command verify: it needs a file and nothing else. Spec: specs/fraud.md."""

import json
from pathlib import Path

import pytest

from node.cli import exit_codes
from tests.node.cli.conftest import run_cli

ROOT = Path(__file__).parent.parent.parent
GOLDEN = json.loads((ROOT / "vectors" / "messages.json").read_text())["proofs"]
golden = pytest.mark.parametrize("vector", GOLDEN, ids=[one["fraud"] for one in GOLDEN])


def written(folder: Path, text: str, flipped: int = 0) -> str:
    data = bytearray.fromhex(text.removeprefix("0x"))
    data[len(data) // 2] ^= flipped
    path = folder / "my.proof"
    path.write_bytes(data)
    return str(path)


@golden
def test_it_says_what_is_proven(vector, tmp_path):
    told = run_cli("verify", written(tmp_path, vector["proof"]))
    assert told.code == exit_codes.OK
    assert f"proven   {vector['fraud']}\n" in told.out
    assert f"against  {vector['requester']}\n" in told.out
    assert f"by       {vector['bidder'] or 'anybody who has both messages'}\n" in told.out
    assert "called   2027-01-15 08:00:00Z\n" in told.out
    assert f"why      {vector['why']}\n" in told.out


@golden
def test_it_says_so_to_programs(vector, tmp_path):
    told = run_cli("verify", "--json", written(tmp_path, vector["proof"])).json
    assert {name: told[name] for name in ("fraud", "requester", "bidder", "why")} == {
        name: vector[name] for name in ("fraud", "requester", "bidder", "why")
    }
    assert (told["call"], told["called_ms"]) == (vector["call_id"][2:], 1_800_000_000_000)


@golden
def test_one_flipped_bit_is_one_clear_line(vector, tmp_path):
    path = written(tmp_path, vector["proof"], flipped=4)
    told = run_cli("verify", path)
    assert (told.code, told.out) == (exit_codes.REFUSED, "")
    assert told.err.startswith("error: my.proof: a message of the proof is not authentic")
    assert told.err.count("\n") == 1
    error = json.loads(run_cli("verify", "--json", path).err)["error"]
    assert error["code"] == "invalid-proof"


@pytest.mark.parametrize("data, code", [
    (b"", "invalid-proof"), (bytes(100_000), "invalid-proof"), (b"hello", "invalid-proof"),
])  # fmt: skip
def test_other_files_are_refused(data, code, tmp_path):
    path = tmp_path / "other"
    path.write_bytes(data)
    error = json.loads(run_cli("verify", "--json", str(path)).err)["error"]
    assert error["code"] == code


def test_authentic_messages_that_show_no_fraud(tmp_path):
    from protocol.rules.fraud import Fraud, FraudProof
    from protocol.wire.codec import decode, encode

    sound = decode(FraudProof, bytes.fromhex(GOLDEN[0]["proof"][2:]))
    call, one, _ = sound.messages
    path = tmp_path / "same.proof"
    same = FraudProof(1, sound.network, Fraud.EQUIVOCATION, (call, one, one))
    path.write_bytes(encode(same))
    told = run_cli("verify", str(path))
    assert told.code == exit_codes.REFUSED
    assert told.err == "error: same.proof: both messages are the same\n"
    error = json.loads(run_cli("verify", "--json", str(path)).err)["error"]
    assert error["code"] == "nothing-proven"


def test_a_file_that_is_not_there(tmp_path):
    assert run_cli("verify", str(tmp_path / "none")).code == exit_codes.USAGE
