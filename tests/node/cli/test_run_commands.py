"""run and submit, as processes. Spec: specs/rpc.md#command-line."""

import os
import pty
import re
import subprocess

import pytest

from node.cli.jobfile import RESOURCES, TOP, read_job_file
from node.cli.run_commands import flag_of_field, run_job
from node.config import RequesterSettings
from protocol.values.ids import Digest
from protocol.wire.job import VICKREY, Terms, Workload
from tests.node.cli.conftest import start_cli
from tests.node.rpc.recorded import BASE

RUN = ["run", "--max-price", "1", "base", "--"]


@pytest.fixture
def runs(daemon):
    """Jobs run as soon as they are submitted."""

    def set_script(exit_code=0):
        service = daemon.service
        daemon.do(setattr, service, "script", lambda job_id: service.whole_run(job_id, exit_code))

    return set_script


def read_line(process, wanted: bytes) -> bytes:
    while line := process.stderr.readline():
        if wanted in line:
            return line
    raise AssertionError(f"never said {wanted!r}")


@pytest.mark.parametrize("exit_code", [0, 7, 130])
def test_run_to_the_jobs_own_exit_code(cli, runs, exit_code):
    runs(exit_code)
    found = cli(*RUN, "echo", "--json", "hi")
    assert (found.code, found.out) == (exit_code, "hello from the job\n")
    assert f"done: exit code {exit_code}, ran 2.5 s, paid 0.000347222 credits" in found.err
    assert "the job has 1 file of output; fetch with: mutirao outputs" in found.err


def test_every_option_arrives(cli, daemon, runs, tmp_path):
    runs()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("x")
    found = cli(
        "run", "--name", "n", "--cpus", "2", "--memory", "2G", "--disk", "4G", "--gpus", "1",
        "--gpu-class", "h200", "--vram", "20G", "--shm-size", "1G",
        "--timeout", "10m", "--max-price", "3.6",
        "--profile", "quick", "--region", "europe", "--retries", "0", "--input", "data:d",
        "--queue-timeout", "10m", "--priority", "-3",
        "--where", "cpus>=2 isolation>=gvisor", "--env", "A=b=c", "--env", "E=",
        "--output", "out", "--key", "my own", "base", "--", "cmd", "-x",
    )  # fmt: skip
    assert found.code == 0, found.err
    (spec,) = daemon.service.specs
    work, terms = spec.workload, spec.terms
    assert (work.inputs[0].pack, work.workdir) == (True, "")
    assert "input d: 1 file, 1 B\n" in found.err
    assert (work.resources.memory_mib, work.resources.vram_mib) == (2048, 20_480)
    assert work.resources.shm_mib == 1024
    assert [(each.name, each.value) for each in work.env] == [("A", "b=c"), ("E", "")]
    assert (work.command, work.inputs[0].path, work.timeout_ms) == (("cmd", "-x"), "d", 600_000)
    assert (terms.rate_max, terms.profile, terms.region, terms.retries) == (10**6, 1, "europe", 0)
    assert (terms.queue_ms, terms.priority) == (600_000, -3)
    assert (spec.name, spec.key) == ("n", b"my own")
    assert terms.where == "cpus>=2 isolation>=gvisor"
    assert (tmp_path / "out" / "result" / "answer.txt").read_text() == "42\n"


def test_price_and_retries_of_the_configuration(cli, daemon, runs):
    runs()
    settings = {"MUTIRAO_REQUESTER__PRICE_MAX_HOUR": "7.2", "MUTIRAO_REQUESTER__RETRIES": "5"}
    assert cli("run", "base", "x", **settings).code == 0
    terms = daemon.service.specs[0].terms
    assert (terms.rate_max, terms.retries) == (2 * 10**6, 5)


def test_run_as_json(cli, runs):
    runs(3)
    found = cli("run", "--json", *RUN[1:], "x")
    assert (found.code, found.err) == (3, "")
    kinds = {next(iter(line)) for line in found.lines}
    assert kinds == {"log", "event", "job"}
    assert found.lines[-1]["job"]["exit_code"] == 3


def test_detach(cli, daemon):
    found = cli("run", "--detach", *RUN[1:], "x")
    assert found.out.strip() in daemon.service.jobs_by_id
    assert cli("run", "--detach", "--json", *RUN[1:], "x").json["phase"] == "announced"


def test_an_image_of_a_registry(cli, daemon, tmp_path):
    found = cli("run", "--detach", "python:3.12", "x")
    assert found.code == 0
    assert found.err == f"docker.io/python:3.12 is sha256:{BASE} (linux/amd64)\n"
    assert daemon.service.specs[0].image_name == "docker.io/python:3.12"
    assert f"docker.io/python:3.12 {BASE}\n" in cli("show", found.out.strip()).out
    assert "id" in cli("run", "--detach", "--json", "--pull", "always", "a/b", "x").json
    assert cli("run", "0123456789ab", "x").code == 4
    assert daemon.service.pulls[-1] == "never"
    never = cli("run", "--pull", "never", "python:3.12", "x")
    assert (never.code, len(daemon.service.specs)) == (4, 2)
    text = 'image = "python:3.12"\ncommand = ["x"]\npull = "always"\n'
    (tmp_path / "job.toml").write_text(text)
    assert cli("submit", "job.toml").err == found.err
    (tmp_path / "job.toml").write_text(text.replace("always", "often"))
    wrong = cli("submit", "job.toml")
    assert (wrong.code, wrong.err) == (5, "error: pull: give missing, always, never\n")


def test_a_job_that_could_not_be_run(cli, daemon):
    def fail(job_id):
        daemon.service.advance(job_id, "failed", reason="no-bids", why="no provider made a bid")

    daemon.do(setattr, daemon.service, "script", fail)
    found = cli(*RUN, "x")
    assert found.code == 6
    assert "error: the job did not run to its end: no provider made a bid\n" in found.err
    assert "see `mutirao show" in found.err
    assert '"job-not-run"' in cli("run", "--json", *RUN[1:], "x").err


def test_a_job_that_ran_out_of_time_has_its_code(cli, daemon):
    def fail(job_id):
        why = "ended after 10 s, its time-out"
        daemon.service.advance(job_id, "failed", reason="timeout", why=why, exit_code=137)

    daemon.do(setattr, daemon.service, "script", fail)
    found = cli(*RUN, "x")
    assert found.code == 137
    assert "the job was ended: ended after 10 s" in found.err


@pytest.mark.parametrize(
    "arguments,code,why",
    [
        (["run", "--max-price", "0", "base", "x"], 5, "--max-price: a job that pays nothing"),
        (
            ["run", "--gpu-class", "h200", "base", "x"],
            5,
            "--gpus: the job requires a GPU class or VRAM",
        ),
        (["run", "--where", "vrma>1", "base", "x"], 5, "--where: character 1: there is no field"),
        (
            ["run", "--where", "vram>80G vram<40G", "base", "x"],
            5,
            "error: --where: vram<40G contradicts vram>80G\n",
        ),
        (["run", "--queue-timeout", "-1h", "base", "x"], 2, "'-1h' is not a duration"),
        (["run", "--queue-timeout", "99d", "base", "x"], 5, "--queue-timeout: give 0 ms to 720 h"),
        (["run", "--priority", "11", "base", "x"], 2, "11 is not in the range -10<=x<=10"),
        (["run", "bsae", "x"], 4, "\n  did you mean 'base'?\n"),
        (["run", "--memory", "1M", "base", "x"], 5, "error: --memory: give 16 MiB to "),
        (["run", "--key", "é", "base", "x"], 2, "printable ASCII characters"),
        (["run", "--key", "a\nb", "base", "x"], 2, "printable ASCII characters"),
        (["run", "--key", " a", "base", "x"], 2, "no space at either end"),
        (["run", "--key", "a ", "base", "x"], 2, "no space at either end"),
        (["run", "--input", "none", "base", "x"], 2, "error: input none: there is no such file"),
        (["run", "--max-price", "free", "base", "x"], 2, "not a price: 'free'"),
        (["run", "--env", "A", "base", "x"], 2, "not NAME=VALUE"),
    ],
)
def test_what_is_refused(cli, daemon, arguments, code, why):
    found = cli(*arguments)
    assert (found.code, found.out) == (code, "")
    assert why in found.err
    assert not daemon.service.specs


def test_a_reader_of_stdout_that_leaves_does_not_cancel(daemon):
    read_end, write_end = os.pipe()
    process = start_cli(*RUN, "x", socket=daemon.socket, stdout=write_end)
    os.close(write_end)
    os.close(read_end)
    read_line(process, b"announced")
    (job_id,) = daemon.service.jobs_by_id
    daemon.do(daemon.service.say, job_id, b"nobody reads this\n")
    _, err = process.communicate()
    hint = f"the job continues: `mutirao logs -f {job_id[:12]}`"
    assert (process.returncode, err.decode()) == (1, f"cannot write the output; {hint}\n")
    assert daemon.service.jobs_by_id[job_id].phase == "announced"


def test_the_help_names_what_the_node_complains_about(cli):
    text = " ".join(cli("run", "--help").out.split())
    assert "idempotency key" in text
    assert "1 to 64 printable ASCII characters" in text
    assert "no standard input" in text


def test_no_line_of_ours_begins_in_the_middle_of_one_of_the_jobs(daemon):
    def run(job_id):
        daemon.service.say(job_id, b"no newline")
        daemon.service.finish(job_id)

    daemon.do(setattr, daemon.service, "script", run)
    process = start_cli(*RUN, "x", socket=daemon.socket, stderr=subprocess.STDOUT)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert "done: exit code 0" in out.decode().split("no newline\n")[1]


def test_progress_on_a_terminal(daemon, runs):
    runs()
    ours, theirs = pty.openpty()
    process = start_cli(*RUN, "x", socket=daemon.socket, stderr=theirs, TERM="xterm")
    os.close(theirs)
    out, _ = process.communicate()
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert (process.returncode, out) == (0, b"hello from the job\n")
    assert "running" in shown
    assert "done: exit code 0" in shown


def test_submit(cli, daemon, runs, tmp_path):
    runs(4)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "in.txt").write_text("x")
    file = tmp_path / "jobs" / "job.toml"
    (tmp_path / "jobs" / "src").mkdir()
    file.write_text(
        'image = "base"\ncommand = ["x"]\ninputs = ["in.txt", "src"]\nmax_price = "1"\n'
    )
    assert cli("submit", str(file)).out.strip() in daemon.service.jobs_by_id
    assert daemon.service.specs[0].workload.image.hex() == BASE
    assert daemon.service.specs[0].workload.inputs[0].path == "in.txt"
    assert daemon.service.specs[0].workload.workdir == "/in/src"
    followed = cli("submit", str(file), "--output", "out")
    assert (followed.code, followed.out) == (4, "hello from the job\n")
    assert (tmp_path / "out" / "result" / "answer.txt").exists()
    again = [cli("submit", str(file), "--key", "k").out for _ in range(2)]
    assert again[0] == again[1]


def test_submit_of_a_file_with_a_typing_error(cli, tmp_path):
    (tmp_path / "job.toml").write_text('image = "base"\ncomand = ["x"]\n')
    found = cli("submit", "job.toml")
    assert (found.code, found.out) == (5, "")
    assert found.err == "error: job.toml:2: comand: unknown key; did you mean 'command'?\n"


def test_a_job_file_is_refused_in_its_own_words(cli, tmp_path):
    text = 'image = "base"\ncommand = ["x"]\n[resources]\nmemory = "1M"\n'
    (tmp_path / "job.toml").write_text(text)
    found = cli("submit", "job.toml")
    assert (found.code, found.out) == (5, "")
    assert found.err.startswith("error: memory: give 16 MiB to ")


def test_every_resource_of_a_job_file_has_a_flag():
    flags = {each.name for each in run_job.params}
    assert {key.field for key in RESOURCES.values()} | {"timeout_ms"} <= flags


def test_the_job_file_in_the_help_is_one(cli, tmp_path):
    text = cli("submit", "--help").out
    assert "\b" not in text
    lines = text.split("where train.toml is\n")[1].split("  Further keys")[0].splitlines()
    (tmp_path / "train.toml").write_text("\n".join(line.strip() for line in lines))
    draft = read_job_file(tmp_path / "train.toml")
    assert draft.command == ("python3", "/in/train.py")
    assert (draft.memory_mib, draft.env) == (2048, (("EPOCHS", "3"),))
    further = text.split("Further keys: ")[1].split(".\n")[0]
    assert all(key in further or f"{key} =" in text for key in (*TOP, *RESOURCES) if key != "env")


def test_run_has_an_option_for_each_key_of_a_job_file():
    assert {key.field for key in (*TOP.values(), *RESOURCES.values())} <= flag_of_field().keys()


def test_the_defaults_in_the_help_are_those_that_hold(cli):
    text = " ".join(cli("run", "--help").out.split())
    work, terms = Workload(Digest(bytes(32)), ()), Terms(1)
    wanted, config = work.resources, RequesterSettings()
    for option, default in {
        "--cpus": wanted.cpus, "--memory": f"{wanted.memory_mib}M",
        "--disk": f"{wanted.disk_mib // 1024}G", "--gpus": wanted.gpus,
        "--timeout": f"{work.timeout_ms // 3_600_000}h", "--retries": config.retries,
    }.items():  # fmt: skip
        about = text.split("Options:")[1].split(f" {option} ")[1].split(" --")[0]
        assert re.search(rf"default {re.escape(str(default))}\b", about), about
    assert terms.profile == VICKREY
    assert "vickrey, the default" in text
