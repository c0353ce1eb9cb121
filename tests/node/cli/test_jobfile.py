"""Job files and their typing errors. Spec: specs/rpc.md#job-file."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from node.cli.draft import Draft
from node.cli.failure import CliError
from node.cli.jobfile import RESOURCES, TOP, read_job_file

SPEC = Path(__file__).parents[3] / "specs" / "rpc.md"


def read(tmp_path, text):
    file = tmp_path / "job.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_job_file(file)


def test_the_example_of_the_spec_has_every_key(tmp_path):
    text = re.search(r"### Job file\n```toml\n(.*?)```", SPEC.read_text(), re.DOTALL)[1]
    draft = read(tmp_path, text)
    assert (draft.timeout_ms, draft.memory_mib, draft.vram_mib) == (3_600_000, 2048, 20_480)
    assert draft.env == (("EPOCHS", "3"),)
    assert draft.inputs == ("train.py", "data:d")
    assert draft.pull == "missing"
    assert all(getattr(draft, field.name) is not None for field in fields(Draft))


def test_every_key_is_a_field_of_the_draft():
    known = {field.name for field in fields(Draft)}
    assert {key.field for key in (*TOP.values(), *RESOURCES.values())} == known


def test_the_least(tmp_path):
    assert read(tmp_path, 'image = "i"\ncommand = ["c"]\n') == Draft("i", ("c",))


@pytest.mark.parametrize(
    "text,array",
    [
        ('array = "0-9%2"', "0-9%2"),
        ('[array]\nindices = "0-9"', "0-9"),
        ('[array]\nindices = "0-9"\nmax_running = 2', "0-9%2"),
    ],
)
def test_an_array_is_text_or_a_table(tmp_path, text, array):
    assert read(tmp_path, f"{LEAST}{text}\n").array == array


LEAST = 'image = "i"\ncommand = ["c"]\n'


@pytest.mark.parametrize(
    "text,why",
    [
        (LEAST + "timeuot = 3\n", "job.toml:3: timeuot: unknown key; did you mean 'timeout'?"),
        (LEAST + "[resources]\ncpu = 3\n", "job.toml:4: cpu: unknown key; did you mean 'cpus'?"),
        (LEAST + "memory = '2G'\n", "job.toml:3: memory: unknown key; it belongs in [resources]"),
        (LEAST + "[resuorces]\ncpus = 3\n", "job.toml:3: resuorces: unknown key; did you mean"),
        (LEAST + "zzzzzz = 1\n", "known are name, image"),
        (LEAST + "hard_limits = 1\n", "job.toml:3: hard_limits: give true or false"),
        (LEAST + "retries = 'x'\n", "job.toml:3: retries: give a whole number"),
        (LEAST + "timeout = 'soon'\n", "job.toml:3: timeout: 'soon' is not a duration"),
        (LEAST + "max_price = true\n", "job.toml:3: max_price: give credits"),
        (LEAST + "[array]\nindcies = '0-9'\n", "job.toml:3: array: indcies: unknown key; did you"),
        (LEAST + "[array]\nmax_running = 2\n", "job.toml:3: array: indices is missing"),
        (LEAST + "[array]\nindices = '1'\nmax_running = '2'\n", "array: give a whole number"),
        (LEAST + "env = {A = 1}\n", "job.toml:3: env: give text"),
        (LEAST + "resources = 1\n", "job.toml:3: resources: give a table"),
        ('image = 3\ncommand = ["c"]\n', "job.toml:1: image: give text in quotes"),
        ('image = "i"\ncommand = "c"\n', "job.toml:2: command: give a list"),
        ('image = "i"\n', "job.toml: command is missing"),
        ("image = \n", "line 1"),
        (b"\xff", "it is not UTF-8"),
    ],
)
def test_what_is_wrong_and_where(tmp_path, text, why):
    with pytest.raises(CliError) as caught:
        read(tmp_path, text)
    assert why in caught.value.detail
    assert caught.value.exit_code == 5


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(CliError, match="Is a directory"):
        read_job_file(tmp_path)
