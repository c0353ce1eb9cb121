"""What commands say about why a job waits, and what would help. Spec: specs/advice.md."""

from dataclasses import replace

from tests.node.rpc.recorded import EXPLANATION, PEER

ADVICE = """\
1 of 2 known nodes can serve this job
  1 has too little memory (asked 8 GiB, most 7 GiB)

NEAREST MISS  CONSTRAINT  WANTED  HAS
…{end}     memory      8 GiB   7 GiB

CHANGE            NODES
--memory 7G       +1
without --region  +1

price   at most 0.0100 credits an hour: the lowest list price
listed  0.0100 to 0.0200 credits an hour, median 0.0150
""".replace("{end}", PEER[-8:])
AT_ONCE = "start   at once: 1 of these nodes answered an earlier call\n"


def test_a_dry_run_submits_nothing(cli, daemon, tmp_path):
    (tmp_path / "in.txt").write_text("x")
    told = cli("run", "--dry-run", "--memory", "8G", "--input", "in.txt", "base", "true")
    assert (told.code, told.out, told.err) == (0, ADVICE + AT_ONCE, "")
    assert not daemon.service.jobs_by_id
    assert not daemon.service.blobs
    assert daemon.service.specs[0].workload.resources.memory_mib == 8192


def test_a_dry_run_of_a_job_that_nobody_could_run(cli, daemon, monkeypatch):
    nobody = replace(EXPLANATION, eligible=0, slots=0, price=None)
    monkeypatch.setattr(daemon.service, "dry_run", lambda _: nobody)
    told = cli("run", "--dry-run", "base", "true")
    assert told.code == 6
    assert "price" not in told.out
    assert told.out.endswith("start  not before nodes are known that can serve it\n")
    as_json = cli("run", "--dry-run", "--json", "base", "true")
    assert (as_json.code, as_json.json["eligible"]) == (6, 0)


def test_a_dry_run_of_a_gang_that_is_too_large(cli, daemon, monkeypatch):
    why = "they have 4 of the 6 slots that it needs at once"
    large = replace(EXPLANATION, slots=4, nodes_wanted=6, too_few=why)
    monkeypatch.setattr(daemon.service, "dry_run", lambda _: large)
    told = cli("run", "--dry-run", "--nodes", "6", "base", "true")
    assert told.code == 6
    assert f"  {why}\n" in told.out


def test_a_dry_run_is_refused_in_the_users_words(cli):
    failed = cli("run", "--dry-run", "--where", "vrma>1", "base", "true")
    assert failed.code == 5
    assert failed.err.startswith("error: --where: character 1: there is no field 'vrma'")


def test_a_waiting_job(cli, daemon, monkeypatch):
    job = cli("run", "--detach", "base", "true").out.strip()
    waiting = replace(
        EXPLANATION.start, place=2, waiting=3, why="4 refused: busy", retry_in_ms=4_000,
        gives_up_in_ms=60_000,
    )  # fmt: skip
    module = "tests.node.rpc.recorded.EXPLANATION"
    monkeypatch.setattr(module, replace(EXPLANATION, start=waiting))
    told = cli("explain", job[:8])
    assert told.out.startswith(f"job {job[:12]} is announced\n")
    assert "2027-01-15 08:00:00Z  1        4 refused: busy with other jobs\n" in told.out
    assert ADVICE in told.out
    assert told.out.endswith(
        "start   waits as number 2 of 3: 4 refused: busy; the next call is in 4.0 s;"
        " it gives up in 1 min 0 s\n"
    )


def test_a_job_that_has_failed(cli, daemon):
    job = cli("run", "--detach", "base", "true").out.strip()
    daemon.do(lambda: daemon.service.whole_run(job))
    told = cli("explain", job)
    assert told.out.startswith(f"job {job[:12]} is done\n")
    assert f"{PEER}  0.5000     yes\n" in told.out
    assert "start" not in told.out
    assert cli("explain", job, "--json").json["waits"][0]["reason"] == "no-bids"


def test_a_job_that_does_not_exist(cli):
    assert cli("explain", "abcdef").code == 4
