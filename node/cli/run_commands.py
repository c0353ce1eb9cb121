"""Commands that bring a job in: run (and follow it to its end) and submit (a file).

Spec: specs/rpc.md#command-line.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from node.cli import exits
from node.cli.connection import Connection
from node.cli.draft import Draft, request_of
from node.cli.failure import Failure
from node.cli.options import effective_config, reaches_node
from node.cli.output import duration, say, show_json
from node.cli.quantities import Duration, Size

ID_DIGITS: Final = 12

output_option = click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Fetch the files that the job left under /out into this folder.",
)  # fmt: skip
key_option = click.option("--key", help="The same key twice is the same job, run once.")


@click.command("run")
@click.argument("image")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--name", help="A name for people.")
@click.option("--cpus", type=click.IntRange(1), help="Processors.")
@click.option("--memory", "memory_mib", type=Size(), help="Memory, such as 512M or 2G.")
@click.option("--disk", "disk_mib", type=Size(), help="Disk, such as 4G.")
@click.option("--gpus", type=click.IntRange(0), help="GPUs.")
@click.option("--gpu-class", metavar="CLASS", help="Which GPU, such as rtx-4090 or h200.")
@click.option("--vram", "vram_mib", type=Size(), help="Memory of each GPU, such as 20G.")
@click.option("--timeout", "timeout_ms", type=Duration(), help="Such as 90s, 10m or 1h.")
@click.option("--max-price", metavar="CREDITS", help="An hour at most; a lone bidder gets it.")
@click.option("--profile", type=click.Choice(["quick", "vickrey"]), help="How bids are asked for.")
@click.option("--region", help="Only providers of this region, such as europe.")
@click.option("--retries", type=click.IntRange(0), help="Other providers to try after a failure.")
@click.option("--input", "inputs", multiple=True, metavar="PATH[:NAME]", help="Seen under /in.")
@click.option("--env", "env", multiple=True, metavar="NAME=VALUE", help="A variable of the job.")
@output_option
@key_option
@click.option("--detach", is_flag=True, help="Print the job's id and do not wait.")
@reaches_node
def run_job(
    *, output: Path | None, key: str | None, detach: bool, env: tuple[str, ...], **options: Any
) -> int:
    """Run COMMAND in IMAGE on some provider; its log is printed as it comes.

    Exits with the job's own code. Ctrl-C cancels the job.

    \b
    Examples:
      mutirao run base -- python3 -c 'print(6 * 7)'
      mutirao run --gpus 1 --input train.py --output ./result base -- python3 /in/train.py
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    node, as_json = options.pop("node"), options.pop("as_json")
    draft = Draft(env=tuple(_variable(text) for text in env), **options)
    job = _send(node, draft, Path.cwd(), key)
    if detach:
        return _print_id(job, as_json=as_json)
    return _follow(node, job, output, as_json=as_json)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-f", "--follow", is_flag=True, help="Follow the job to its end, as `run` does.")
@output_option
@key_option
@reaches_node
def submit(*, file: Path, follow: bool, output: Path | None, key: str | None, **reach: Any) -> int:
    """Submit the job that a TOML file describes, and print its id.

    Paths in the file are relative to it. The format is in specs/rpc.md#job-file.

    Example: mutirao submit train.toml --follow --output ./result
    """
    from node.cli.jobfile import read_job_file

    node, as_json = reach["node"], reach["as_json"]
    job = _send(node, read_job_file(file), file.absolute().parent, key)
    if follow or output is not None:
        return _follow(node, job, output, as_json=as_json)
    return _print_id(job, as_json=as_json)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--env")
    return name, value


def _send(node: Connection, draft: Draft, folder: Path, key: str | None) -> dict[str, Any]:
    """Upload the inputs and submit the job; return it."""
    import secrets
    from dataclasses import replace

    from node.cli.inputs import find_inputs, upload_inputs

    defaults = effective_config(None, {}).requester
    draft = replace(
        draft,
        max_price=draft.max_price or defaults.price_max_hour,
        retries=defaults.retries if draft.retries is None else draft.retries,
    )
    uploaded = upload_inputs(node, find_inputs(draft.inputs, folder), tell=_ignore)
    headers = {"idempotency-key": key or secrets.token_hex(16)}
    job: dict[str, Any] = node.post("/jobs", request_of(draft, uploaded), headers)
    return job


def _ignore(_: str) -> None:
    """Say nothing: uploads to one's own machine are too fast to be worth a line."""


def _print_id(job: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        show_json(job)
    else:
        click.echo(job["id"])
    return exits.OK


def _follow(node: Connection, job: dict[str, Any], output: Path | None, *, as_json: bool) -> int:
    from node.cli.fetch import fetch_outputs
    from node.cli.follow import LogPrinter, follow_job
    from node.cli.progress import choose_progress

    printer = LogPrinter(as_json=as_json)
    progress = choose_progress(as_json=as_json)
    tell: Callable[[str], None] = _ignore if as_json else say
    tell(f"job {job['id']}")
    try:
        ended = follow_job(node, job["id"], printer, progress)
    except KeyboardInterrupt:
        return _cancel(node, job["id"], progress.log_begins, tell)
    printer.write_object({"job": ended})
    if ended["phase"] == "done":
        tell(_summary(ended))
        files = fetch_outputs(node, job["id"], output) if output else node.get(_outputs(ended))
        _tell_of_files(ended, files, output, tell)
    return _exit_code(ended)


def _cancel(
    node: Connection, job_id: str, clear: Callable[[], None], tell: Callable[[str], None]
) -> int:
    clear()
    tell("interrupted: cancelling the job (once more to leave at once)")
    view = node.post(f"/jobs/{job_id}/cancel")
    tell(f"job {job_id[:ID_DIGITS]}: {view['phase']}")
    return exits.INTERRUPTED


def _exit_code(ended: dict[str, Any]) -> int:
    """Return the job's own code; raise Failure if the job has none to give."""
    code, why = ended["exit_code"], ended["why"] or ended["reason"] or ended["phase"]
    if ended["phase"] == "done":
        return int(code or 0)
    if code:  # It ran, and was ended: for its time-out, its memory.
        say(f"the job was ended: {why}")
        return int(code)
    hint = f"see `mutirao show {ended['id'][:ID_DIGITS]}`"
    raise Failure("job-not-run", f"the job did not run to its end: {why}", hint)


def _summary(ended: dict[str, Any]) -> str:
    paid = f", paid {ended['amount']} credits" if ended["amount"] else ""
    why = f" ({ended['why']})" if ended["reason"] else ""
    return f"done: exit code {ended['exit_code']}{why}, ran {duration(ended['usage_ms'])}{paid}"


def _tell_of_files(
    ended: dict[str, Any], files: list[Any], output: Path | None, tell: Callable[[str], None]
) -> None:
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    if files and output:
        tell(f"{count} written to {output}")
    elif files:
        short = ended["id"][:ID_DIGITS]
        tell(f"the job left {count}; to fetch: mutirao outputs {short} DIR")


def _outputs(ended: dict[str, Any]) -> str:
    return f"/jobs/{ended['id']}/outputs"
