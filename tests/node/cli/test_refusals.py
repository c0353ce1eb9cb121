"""A refused job is explained in its user's own words. Spec: specs/errors.md."""

from dataclasses import dataclass

import pytest

from node.cli.failure import CliError
from node.cli.refusals import explained, in_words

FLAGS = {"memory_mib": "--memory", "timeout_ms": "--timeout", "cpus": "--cpus", "gpus": "--gpus"}
WHERE = {"where": "--where"}


@dataclass
class Kept:
    """A node that keeps these images."""

    names: tuple[str, ...]

    def get(self, path):
        assert path == "/images"
        return [{"names": [name]} for name in self.names]


@pytest.mark.parametrize(
    "detail,words",
    [
        ("workload: resources: memory_mib: expected an integer from 16 to 1048576",
         "--memory: give 16 MiB to 1 TiB"),
        ("workload: timeout_ms: expected an integer from 1000 to 3600000",
         "--timeout: give 1.0 s to 1 h 0 min"),
        ("workload: resources: cpus: expected an integer from 1 to 4096", "--cpus: give 1 to 4096"),
        ("gpus: a GPU class is asked for", "--gpus: a GPU class is asked for"),
        ("disk: output and log are larger", "disk: output and log are larger"),
        ("this is another line", "this is another line"),
    ],
)  # fmt: skip
def test_fields_have_the_names_that_the_user_gave_them(detail, words):
    assert in_words(detail, FLAGS) == words
    failure = explained(CliError("invalid-request", detail), Kept(()), "base", FLAGS)
    assert (failure.code, failure.detail) == ("invalid-request", words)


@pytest.mark.parametrize(
    "given,hint", [("bsae", "did you mean 'base'?"), ("pytorch:3", "did you mean 'pytorch:2'?")]
)
def test_a_mistyped_image(given, hint):
    refused = CliError("not-found", f"no image is named {given!r}")
    assert explained(refused, Kept(("base", "pytorch:2")), given, FLAGS).hint == hint


@pytest.mark.parametrize("names", [(), ("something",)])
def test_an_image_that_nothing_is_like(names):
    refused = CliError("not-found", "no image is named 'bsae'")
    assert "mutirao image import" in explained(refused, Kept(names), "bsae", FLAGS).hint


def test_other_failures_stay_as_they_are():
    failure = CliError("storage-full", "no room")
    assert explained(failure, Kept(()), "base", FLAGS) is failure


def test_a_query_has_the_name_that_the_user_gave_it():
    refused = CliError("invalid-query", "character 1: there is no field 'x'")
    told = explained(refused, Kept(()), "base", WHERE)
    assert (told.code, told.detail) == (refused.code, f"--where: {refused.detail}")
