"""Commands that submit a job: run (and follow it to its end) and submit (from a file).

Spec: specs/rpc.md#command-line.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from node.cli import exit_codes
from node.cli.connection import Connection
from node.cli.draft import Draft, Uploaded, request_of
from node.cli.failure import CliError
from node.cli.job_options import array_option, job_options
from node.cli.options import effective_config, reaches_node
from node.cli.output import show_json

if TYPE_CHECKING:  # A command that only prints its help needs no hashes.
    from node.cli.inputs import Found

KEY_MAX: Final = 64
"""Characters of an idempotency key."""
KEY_WORDS: Final = f"1 to {KEY_MAX} printable ASCII characters, no space at either end"
RUN_JSON: Final = (
    "Print JSON for programs: one object per line, as it comes, and the job last;"
    " with --detach the job alone."
)
SUBMIT_JSON: Final = (
    "Print JSON for programs: one object, the job; with --follow one object per line, as it comes."
)


def _check_key(_context: click.Context, _option: click.Parameter, key: str | None) -> str | None:
    if key is None:
        return None
    fits = key.isascii() and key.isprintable() and key == key.strip()
    if not fits or not 0 < len(key) <= KEY_MAX:
        raise click.BadParameter(f"give {KEY_WORDS}")
    return key


output_option = click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Fetch the job's output files (/out) into this folder.",
)  # fmt: skip
key_option = click.option(
    "--key", callback=_check_key, metavar="TEXT",
    help="An idempotency key, a name for this submission: a repeated key returns the same job"
    f" and runs nothing twice. {KEY_WORDS}.",
)  # fmt: skip


@click.command("run")
@click.argument("image")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@job_options
@output_option
@key_option
@click.option("--detach", is_flag=True, help="Print the job's id and do not wait.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Submit nothing: print which known nodes could serve the job, what would help, the"
    " price and the start.",
)
@reaches_node(RUN_JSON)
def run_job(
    *,
    output: Path | None,
    key: str | None,
    detach: bool,
    dry_run: bool,
    env: tuple[str, ...],
    **options: Any,
) -> int:
    """Run COMMAND in IMAGE on a provider, and print its log as it arrives.

    IMAGE is a name or a digest of `mutirao image list`; any other word is a reference to a
    registry, as in `mutirao image pull`.

    Exits with the job's own code. Ctrl-C cancels the job and prints its cost. A job has no
    standard input: a pipe is not read, so give it files with --input.

    \b
    Examples:
      mutirao run base -- python3 -c 'print(6 * 7)'
      mutirao run python:3.12-slim -- python3 -c 'print(6 * 7)'
      mutirao run --input . --output ./result base -- python3 train.py
      mutirao run --gpus 1 --input train.py --output ./result base -- python3 /in/train.py
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    from node.cli.inputs import find_inputs
    from node.cli.pull import ready_image

    node, as_json = options.pop("node"), options.pop("as_json")
    draft = Draft(env=tuple(_variable(text) for text in env), **options)
    words = flag_of_field()
    try:
        found, draft = find_inputs(draft, Path.cwd())
    except CliError as failure:
        raise CliError("usage", failure.detail, failure.hint) from None
    if dry_run:
        return _dry_run(node, draft, words, as_json=as_json)
    draft = ready_image(node, draft, words, as_json=as_json)
    job = _submit(node, draft, _uploaded(node, found, as_json=as_json), key, words)
    if detach:
        return _print_id(job, as_json=as_json)
    return _follow(node, job, output, as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-f", "--follow", is_flag=True, help="Follow the job to its end, as `run` does.")
@array_option
@output_option
@key_option
@reaches_node(SUBMIT_JSON)
def submit(
    *, file: Path, follow: bool, array: str | None, output: Path | None, key: str | None,
    **reach: Any,
) -> int:  # fmt: skip
    """Submit the job of a TOML file, and print its id.

    image and command are required; all other keys have the defaults that `mutirao run --help`
    shows. Paths are relative to the file.

    \b
    Example: mutirao submit train.toml --follow --output ./result
    where train.toml is
      image = "base"
      command = ["python3", "/in/train.py"]
      name = "train"
      inputs = ["train.py", "data:d"]  # PATH, or PATH:NAME to rename
      timeout = "1h"
      max_price = "0.50"               # credits an hour
      retries = 2
      array = "0-99%20"                # once for each index, at most 20 at once

    \b
      [env]
      EPOCHS = "3"

    \b
      [resources]
      cpus = 2
      memory = "2G"
      disk = "4G"
      gpus = 0

    Further keys: nodes, same_region, spread_regions, max_round_trip, start_percent, queue_timeout,
    priority, retry_on_exit, checkpoint, checkpoint_every, cap_percent, profile, region, drivers,
    hard_limits, allow_net, where, isolation, workdir, exclude, default_excludes, pull; [resources]
    disk_in_memory, gpu_class, vram, shm, output, log, processes.
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    from node.cli.inputs import find_inputs
    from node.cli.jobfile import key_of_field, read_job_file
    from node.cli.pull import ready_image

    node, as_json = reach["node"], reach["as_json"]
    draft = read_job_file(file)
    draft = draft if array is None else replace(draft, array=array)
    found, draft = find_inputs(draft, file.absolute().parent)
    draft = ready_image(node, draft, key_of_field(), as_json=as_json)
    job = _submit(node, draft, _uploaded(node, found, as_json=as_json), key, key_of_field())
    if not follow and output is None:
        return _print_id(job, as_json=as_json)
    return _follow(node, job, output, as_json=as_json)


def _follow(node: Connection, job: dict[str, Any], output: Path | None, *, as_json: bool) -> int:
    from node.cli.arrays import follow_array, follow_gang, is_array
    from node.cli.attach import attach

    if not is_array(job):
        return attach(node, job, output, as_json=as_json)
    follow = follow_gang if job["gang"] else follow_array
    return follow(node, job, output, as_json=as_json)


def flag_of_field() -> dict[str, str]:
    """Return how each field of a Draft is written on the command line: {"cpus": "--cpus"}."""
    return {each.name or "": each.opts[0] for each in run_job.params}


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--env")
    return name, value


def _uploaded(
    node: Connection, found: tuple["Found", ...], *, as_json: bool
) -> tuple[Uploaded, ...]:
    from node.cli.inputs import upload_inputs
    from node.cli.progress import choose_progress

    return upload_inputs(node, found, choose_progress(as_json=as_json))


def _submit(
    node: Connection, draft: Draft, uploaded: tuple[Uploaded, ...], key: str | None,
    words: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Submit the job and return it. `words`: the user's name of each field."""
    import secrets

    request = request_of(_completed(draft), uploaded)
    headers = {"idempotency-key": key or secrets.token_hex(16)}
    return _post(node, "/jobs", request, headers, words)


def _dry_run(node: Connection, draft: Draft, words: Mapping[str, str], *, as_json: bool) -> int:
    """Print which known nodes could serve a job."""
    from node.cli.explain_commands import show_explanation

    view = _post(node, "/jobs/dry-run", request_of(_completed(draft), ()), {}, words)
    if as_json:
        show_json(view)
    else:
        show_explanation(view, words)
    return exit_codes.OK if view["slots"] >= view["nodes_wanted"] else exit_codes.NOT_RUN


def _completed(draft: Draft) -> Draft:
    """Return a draft with the defaults of the configuration."""
    from dataclasses import replace

    defaults = effective_config(None, {}).requester
    return replace(
        draft,
        max_price=draft.max_price or defaults.price_max_hour,
        cap_percent=defaults.cap_percent if draft.cap_percent is None else draft.cap_percent,
        retries=defaults.retries if draft.retries is None else draft.retries,
    )


def _post(
    node: Connection, path: str, request: dict[str, Any], headers: Mapping[str, str],
    words: Mapping[str, str],
) -> dict[str, Any]:  # fmt: skip
    """Send a job and return the answer; a refusal is in the user's words."""
    from node.cli.refusals import explained

    try:
        answer: dict[str, Any] = node.post(path, request, headers)
    except CliError as failure:
        raise explained(failure, node, request["image"], words) from None
    return answer


def _print_id(job: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        show_json(job)
    else:
        click.echo(job["id"])
    return exit_codes.OK


COMMANDS: Final = {"run": run_job, "submit": submit}
