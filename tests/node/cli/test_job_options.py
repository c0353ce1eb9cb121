"""The options that describe a job. Spec: specs/rpc.md#command-line."""

from dataclasses import fields

import click

from node.cli.draft import Draft
from node.cli.job_options import job_options


@click.command()
@job_options
def describe(**_options: object) -> None:
    """Take a job."""


def test_each_option_is_a_field_of_a_draft_and_tells_what_it_is():
    known = {each.name for each in fields(Draft)}
    assert {each.name for each in describe.params} <= known
    assert all(each.help for each in describe.params)


def test_help_has_them_in_order():
    flags = [each.opts[0] for each in describe.params]
    assert flags[:3] == ["--name", "--cpus", "--memory"]
    assert flags.index("--array") < flags.index("--nodes")
