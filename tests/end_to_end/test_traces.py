"""A live node is recorded, and what it recorded is simulated. Spec: specs/trace.md."""

import json
import signal
import subprocess
import time

from node.trace_format import TracedEvent, TracedJob, TracedOffer, TraceEnd, decode_line
from tests.end_to_end.fixtures import newest, refused, run, until


def replay(node, *arguments):
    """Replay a trace; return what the command says to programs."""
    told = node.mutirao("simulate", "replay-trace", *arguments, "--json")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)


def test_the_past_of_a_node_is_recorded_and_simulated(requester, network, tmp_path):
    file = tmp_path / "trace.jsonl"
    secret, began = "a-secret-word", time.monotonic()
    for minutes in (41, 42):
        run(requester, f"--timeout={minutes}m", f"--name={secret}", "base", "--", "echo", secret)
    job = newest(requester)
    # Other tests use this node, too. The command itself takes a while to start.
    ours = f"--since={int(1000 * (time.monotonic() - began)) + 500}ms"
    told = requester.mutirao("record", ours, "--out", str(file), "--json")
    assert told.returncode == 0, told.stderr
    counts = json.loads(told.stdout)
    assert counts["jobs"] == 2
    assert (counts["offers"], counts["round_trips"]) == (4, 4)
    lines = [decode_line(line) for line in file.read_bytes().splitlines()]
    assert isinstance(lines[-1], TraceEnd)
    last = [line for line in lines if isinstance(line, TracedJob)][-1]
    events = [line for line in lines if isinstance(line, TracedEvent) and line.job == last.job]
    assert (events[-1].event, events[-1].usage_ms) == ("done", job["usage_ms"])
    told_secrets = [secret, job["id"], job["image"][:16], *(node.peer_id for node in network.nodes)]
    told_secrets += [node.address.partition("/p2p/")[0] for node in network.nodes]
    text = file.read_text()
    assert [each for each in told_secrets if each in text] == []
    replayed = replay(requester, str(file), "--out", str(tmp_path / "run"))
    assert replayed["compared"] + replayed["fitted"] == counts["jobs"]
    assert replayed["done"]["simulated"] == 1
    assert replayed["measures"]["award_ms"]["recorded_p50"] > 0
    assert (tmp_path / "run/jobs.parquet").is_file()


def test_a_live_recording_has_what_happens_until_ctrl_c(requester, tmp_path):
    file = tmp_path / "trace.jsonl"
    recording = subprocess.Popen(
        **requester.command("record", "--for", "5m", "--out", str(file)), stderr=subprocess.PIPE
    )

    def lines():
        return list(map(decode_line, file.read_bytes().splitlines())) if file.exists() else []

    until(lambda: any(isinstance(line, TracedOffer) for line in lines()), "offers")
    run(requester, "--timeout=43m", "base", "--", "true")
    until(lambda: any(isinstance(line, TracedEvent) and line.event == "done" for line in lines()),
          "the end of the job")  # fmt: skip
    recording.send_signal(signal.SIGINT)
    assert recording.wait(20) == 0
    assert b"1 jobs" in recording.stderr.read()
    recording.stderr.close()
    assert sum(isinstance(line, TracedJob) for line in lines()) == 1
    assert replay(requester, str(file), "--processing", "5")["compared"] == 1


def test_a_trace_of_another_version_is_refused(requester, tmp_path):
    file = tmp_path / "trace.jsonl"
    file.write_text('{"kind":"header","format":"mutirao-trace","version":2,"code":"9.0"}\n')
    refused(
        requester, "simulate", "replay-trace", str(file), code=5,
        saying="it is a trace of version 2, and this program reads version 1",
    )  # fmt: skip
