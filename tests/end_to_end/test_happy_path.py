"""A job from the command line to its receipt: inputs, outputs, prices, signatures.

Spec: specs/overview.md#way-of-a-job.
"""

import hashlib
import json
import os
import signal

import pytest

from tests.end_to_end.fixtures import (
    end_sleep,
    job_of,
    lease_of,
    named,
    newest,
    opened,
    owner_of,
    receipt_of,
    run,
    sleep_command,
    start,
    until,
)


def blobs_in(folder) -> dict[str, int]:
    """Every blob in a folder and the file that holds it: a blob fetched again is another file."""
    files = [path for path in folder.rglob("*") if path.is_file() and len(path.name) == 64]
    return {path.name: path.stat().st_ino for path in files}


def test_inputs_reach_the_job_and_outputs_come_back(requester, tmp_path):
    (tmp_path / "one.txt").write_text("first\n")
    (tmp_path / "folder/deep").mkdir(parents=True)
    (tmp_path / "folder/deep/two.txt").write_text("second\n")
    (tmp_path / "folder/link").symlink_to("deep/two.txt")
    (tmp_path / "script").write_text(
        "#!/bin/sh\n"
        "test -x /in/one.txt && echo what is no program is one\n"
        "cat /in/one.txt link | tee /out/all.txt; mkdir /out/x; id >/out/x/y\n"
    )
    (tmp_path / "script").chmod(0o755)
    ran = run(
        requester, f"--input={tmp_path}/one.txt", f"--input={tmp_path}/folder:d",
        f"--input={tmp_path}/script", "--workdir=/in/d", f"--output={tmp_path}/result", "base",
        "--", "/in/script",
    )  # fmt: skip
    assert ran.stdout == "first\nsecond\n"
    assert (tmp_path / "result/all.txt").read_text() == "first\nsecond\n"
    assert (tmp_path / "result/x/y").read_text().startswith("uid=")
    assert "2 files written" in ran.stderr


def test_the_jobs_own_exit_code_is_ours(requester):
    ran = run(requester, "base", "--", "sh", "-c", "echo to stderr >&2; exit 7", code=7)
    assert "to stderr" in ran.stdout, "the log has both streams"
    view = newest(requester)
    assert (view["phase"], view["exit_code"], view["reason"]) == ("done", 7, None)


def test_the_environment_is_the_jobs_and_not_the_providers(requester):
    ran = run(requester, "--env=COLOUR=light blue", "base", "--", "env")
    assert "COLOUR=light blue\n" in ran.stdout
    assert "MUTIRAO" not in ran.stdout


def test_the_cheapest_wins_and_is_paid_the_second_price(requester, network):
    run(requester, "--timeout=59m", "base", "--", "true")  # No equal job has a slot.
    view = newest(requester)
    asks = sorted(view["bids"], key=lambda bid: float(bid["ask_hour"]))
    assert [owner_of(network, bid["peer"]) for bid in asks] == ["bruno", "ana", "carla", "davi"]
    assert all(bid["eligible"] for bid in asks)
    assert owner_of(network, view["provider"]) == "bruno"
    assert view["price_hour"] == view["runner_up_hour"]
    # A stranger's bid weighs up to a quarter more than that of a provider that has served us.
    second = float(asks[1]["ask_hour"])
    assert second <= float(view["price_hour"]) <= 1.25 * second
    hours = view["usage_ms"] / 3_600_000
    assert float(view["amount"]) == pytest.approx(hours * float(view["price_hour"]), abs=2e-9)
    for name, result in (("bruno", "won"), ("ana", "lost"), ("davi", "lost")):
        node = named(network, name)
        until(lambda node=node: bid_of(node, asks)["result"] != "open", "the outcome at a bidder")
        bid = bid_of(node, asks)
        assert (bid["result"], bid["price_hour"]) == (result, view["price_hour"]), bid


def bid_of(node, asks):
    """The newest bid of a provider, which the requester saw with the same ask."""
    bid = json.loads(node.mutirao("bids", "--limit", "1", "--json").stdout)
    assert bid["ask_hour"] in {ask["ask_hour"] for ask in asks if ask["peer"] == node.peer_id}
    return bid


def test_without_a_highest_price_the_lowest_list_price_is_the_limit(
    requester, network, monkeypatch
):
    monkeypatch.setenv("MUTIRAO_REQUESTER__PRICE_MAX_HOUR", "")
    ran = run(requester, "--cpus=1", "--memory=64M", "base", "--", "true")
    view = newest(requester)
    assert owner_of(network, view["provider"]) == "bruno"
    assert view["price_hour"] == view["cap_hour"] == view["bids"][0]["ask_hour"] == "0.0101"
    assert f"at most 0.0101 credits an hour, {view['cap_why']}" in ran.stderr
    assert view["cap_why"].startswith("the lowest list price of the 4 nodes")


def test_in_the_quick_profile_the_cheapest_is_paid_what_it_asks(requester, network):
    run(requester, "--profile=quick", "base", "--", "true")
    view = newest(requester)
    cheapest = min(view["bids"], key=lambda bid: float(bid["ask_hour"]))
    assert owner_of(network, view["provider"]) == "bruno"
    assert view["price_hour"] == cheapest["ask_hour"]


def test_both_sides_keep_the_same_receipt_and_both_signatures_verify(requester, network):
    run(requester, "base", "--", "true")
    view = newest(requester)
    provider = named(network, owner_of(network, view["provider"]))
    lease = lease_of(requester, view["id"])
    ours = receipt_of(requester, "requester", lease)
    until(lambda: receipt_of(provider, "provider", lease).countersign, "the countersigned receipt")
    assert receipt_of(provider, "provider", lease) == ours

    proposal, countersign = opened(ours.proposal, provider), opened(ours.countersign, requester)
    assert proposal.message == countersign.message
    receipt = proposal.message
    assert (receipt.payer, receipt.payee) == (requester.peer_id, provider.peer_id)
    assert (receipt.usage_ms, receipt.amount) == (ours.usage_ms, ours.amount)
    shown = view["receipt"]
    assert proposal.envelope.endswith(bytes.fromhex(shown["provider_signature"]))
    assert countersign.envelope.endswith(bytes.fromhex(shown["requester_signature"]))
    assert float(shown["amount"]) * 1e9 == pytest.approx(receipt.amount)


def test_what_one_pays_the_other_earns(requester, network):
    provider = named(network, "bruno")
    before = (float(requester.status()["spent"]), float(provider.status()["earned"]))
    run(requester, "base", "--", "sleep", "0.3")
    amount = float(newest(requester)["amount"])
    assert amount > 0
    until(
        lambda: float(provider.status()["earned"]) == pytest.approx(before[1] + amount),
        "the provider to count its income",
    )
    until(
        lambda: float(requester.status()["spent"]) == pytest.approx(before[0] + amount),
        "the requester to count its expense",
    )


def test_the_same_job_again_fetches_nothing_again(requester, network, image, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "data").write_bytes(data)
    wanted = {hashlib.sha256(data).hexdigest(), *blobs_in(image)}
    arguments = (f"--input={tmp_path}/data", "base", "--", "sha256sum", "/in/data")
    first = run(requester, *arguments)
    provider = named(network, owner_of(network, newest(requester)["provider"]))
    before = blobs_in(provider.data / "blobs")
    assert wanted <= before.keys()
    second = run(requester, *arguments)
    assert second.stdout == first.stdout
    assert newest(requester)["provider"] == provider.peer_id
    after = blobs_in(provider.data / "blobs")
    assert {blob: before[blob] for blob in wanted} == {blob: after[blob] for blob in wanted}


def test_json_is_one_object_a_line_and_ends_with_the_job(requester):
    ran = run(requester, "--json", "--timeout=58m", "base", "--", "echo", "hello")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert "".join(line.get("log", "") for line in lines) == "hello\n"
    kinds = [line["event"]["kind"] for line in lines if "event" in line]
    for kind in ("announced", "bids", "awarded", "fetching", "running", "returning", "done"):
        assert kind in kinds
    last = lines[-1]["job"]
    assert last["phase"] == "done"
    assert last == job_of(requester, last["id"])


def test_the_members_of_an_array_that_failed_run_again_on_a_retry(requester, tmp_path):
    command = sleep_command()
    at_5 = f"if [ $MUTIRAO_ARRAY_INDEX = 5 ]; then {command}; [ $? = 137 ] || exit 3; fi"
    script = f"echo $MUTIRAO_ARRAY_INDEX >/out/index; {at_5}"
    array = start(requester, "--array=0-7%4", "base", "--", "sh", "-c", script)
    until(lambda: end_sleep(command), "the member to sleep, and to be ended")
    waited = requester.mutirao("wait", array)
    assert waited.returncode == 1
    assert "failed: 7 of 8 done, 1 failed" in waited.stderr
    before = members_of(requester, array)
    assert [member["exit_code"] for member in before] == [0, 0, 0, 0, 0, 3, 0, 0]

    assert requester.mutirao("retry", array).returncode == 0
    until(lambda: end_sleep(command, how=signal.SIGKILL), "it to sleep again, and to be killed")
    waited = requester.mutirao("wait", array)
    assert (waited.returncode, "done: 8 of 8 done" in waited.stderr) == (0, True)
    after = members_of(requester, array)
    assert [member["exit_code"] for member in after] == [0] * 8
    assert [b["paid"] < a["paid"] for b, a in zip(before, after, strict=True)].count(True) == 1
    fetched = requester.mutirao("outputs", array, str(tmp_path / "result"))
    assert fetched.returncode == 0, fetched.stderr
    for index in range(8):
        assert (tmp_path / f"result/{index}/index").read_text() == f"{index}\n"


def members_of(node, array):
    return node.api.get(f"/jobs/{array}/members")
