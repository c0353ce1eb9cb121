"""What users get wrong: one clear line, the right exit code, and a node that goes on.

Spec: specs/rpc.md#exit-codes.
"""

import os

import pytest

from tests.end_to_end.fixtures import newest, refused, run

LEAST = 'image = "base"\ncommand = ["true"]\n'


@pytest.mark.parametrize(
    "text, saying",
    [
        (LEAST + 'timout = "1h"\n', "job.toml:3: timout: unknown key; did you mean 'timeout'?"),
        (LEAST + "cpus = 2\n", "job.toml:3: cpus: unknown key; it belongs in [resources]"),
        (LEAST + '[resources]\nmemory = "lots"\n', "job.toml:4: memory: 'lots' is not a size"),
        (LEAST + "retries = \n", "line 3"),
        ('command = ["true"]\n', "image is missing"),
        (LEAST + "retries = 99\n", "retries"),
        (LEAST + 'max_price = "-1"\n', "max_price"),
        (LEAST + 'inputs = ["nowhere"]\n', "nowhere"),
    ],
)
def test_a_job_file_with_a_fault(requester, tmp_path, text, saying):
    path = tmp_path / "job.toml"
    path.write_text(text)
    refused(requester, "submit", str(path), code=5, saying=saying)


@pytest.mark.parametrize(
    "arguments, code, saying",
    [
        (["run", "--pull", "never", "nosuch", "--", "true"], 4, "nosuch"),
        (["run", "0123456789abcdef", "--", "true"], 4, "0123456789ab"),
        (["run", "--gpu=1", "base", "--", "true"], 2, "--gpu"),
        (["run", "--memory=1X", "base", "--", "true"], 2, "1X"),
        (["run", "--env=A", "base", "--", "true"], 2, "NAME=VALUE"),
        (["run", "base"], 2, "COMMAND"),
        (["run", "--input=nowhere", "base", "--", "true"], 2, "nowhere"),
        (["run", "--max-price=free", "base", "--", "true"], 2, "not a price"),
        (["run", "--max-price=0", "base", "--", "true"], 5, "--max-price: "),
        (["submit", "nowhere.toml"], 2, "nowhere.toml"),
        (["show", "abcdef012345"], 4, "abcdef012345"),
        (["logs", "zz"], 4, "zz"),
        (["cancel", "../../etc"], 4, "etc"),
        (["outputs", "abcdef012345", "out"], 4, "abcdef012345"),
        (["image", "import", "nowhere.tar"], 2, "nowhere.tar"),
        (["dance"], 2, "dance"),
    ],
)
def test_a_wrong_command_line(requester, arguments, code, saying):
    refused(requester, *arguments, code=code, saying=saying)


@pytest.mark.parametrize(
    "options, saying",
    [
        (["--cpus=4000"], "0 of 4 known nodes can serve this job: 4 have too few CPUs"),
        (["--gpus=8"], "4 have too few GPUs (asked 8, most "),
        (["--memory=1000G"], "4 have too little memory"),
        (["--region=oceania"], "4 are not in region oceania"),
        (["--max-price=0.0001"], "4 list a price above 0.0001 credits an hour"),
        (["--cpus=4000", "--region=africa"], "4 are not in region africa"),
    ],
)
def test_a_job_that_nobody_can_serve_says_how_many_lack_what(requester, options, saying):
    asked = ["run", *options, "--queue-timeout=0", "base", "--", "true"]
    refused(requester, *asked, code=6, saying=saying)
    assert newest(requester)["reason"] == "no-match"


def test_a_price_between_two_floors_keeps_the_dear_ones_out(requester):
    run(requester, "--max-price=0.0125", "base", "--", "true")
    view = newest(requester)
    assert [bid["eligible"] for bid in view["bids"]] == [True], "only bruno asks so little"
    assert view["price_hour"] == "0.0125", "with no second bid the limit is the price"


def test_outputs_of_a_job_without_any(requester, tmp_path):
    run(requester, "base", "--", "true")
    fetched = requester.mutirao("outputs", newest(requester)["id"], str(tmp_path / "result"))
    assert (fetched.returncode, fetched.stdout) == (0, "")
    assert "no output files" in fetched.stderr


def test_outputs_over_the_limit_are_told_and_a_full_disk_is_the_jobs_own_failure(
    requester, tmp_path
):
    path = tmp_path / "job.toml"
    path.write_text(
        'image = "base"\ncommand = ["sh", "-c", "head -c 3000000 /dev/zero >/out/big"]\n'
        '[resources]\noutput = "1M"\n'
    )
    ran = requester.mutirao("submit", "--follow", str(path))
    assert ran.returncode == 0, ran.stderr
    assert "mutirao: not in the outputs: big: " in ran.stdout
    path.write_text(path.read_text().replace('output = "1M"', 'disk = "20M"\nlog = "1M"'))
    path.write_text(path.read_text().replace("3000000", "30000000"))
    ran = requester.mutirao("submit", "--follow", str(path))
    assert ran.returncode == 1, ran.stderr
    assert "No space left" in ran.stdout


def test_a_command_that_the_image_lacks(requester):
    ran = run(requester, "base", "--", "nosuchprogram", code=127)
    assert "mutirao: nosuchprogram: not found in the image" in ran.stdout
    assert newest(requester)["why"] == "nosuchprogram: not found in the image"


def test_rubbish_is_no_image(requester, tmp_path):
    (tmp_path / "rubbish.tar").write_bytes(os.urandom(20_000))
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, saying in (
        ("rubbish.tar", "not a tar archive"),
        ("empty.tar", "image"),
        ("folder", "image"),
        ("pipe", "not a regular file"),
    ):
        refused(requester, "image", "import", str(tmp_path / name), code=5, saying=saying)
    assert requester.status()["peer_id"] == requester.peer_id


def test_no_daemon_answers(requester, tmp_path):
    ran = requester.mutirao("--help")
    assert ran.returncode == 0
    refused(requester, "status", f"--data={tmp_path}", code=3, saying="no daemon answers")
