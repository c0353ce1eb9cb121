"""The options that describe a job, in the order in which `run --help` shows them.

Spec: specs/rpc.md#command-line.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from node.cli.quantities import Duration, HourlyPrice, Names, RoundTrip, Size
from protocol.values.isolation import TIERS

Function = TypeVar("Function", bound=Callable[..., Any])

PROFILES: Final = (
    "The auction. vickrey, the default: all bids are made before any can be read, then the"
    " cheapest wins and is paid the second-lowest price, so that asking the true price is"
    " best. quick: one round, and the cheapest is paid its own price; the job starts sooner."
)


def _size(flag: str, field: str, text: str) -> Callable[[Any], Any]:
    """Return an option that is a size."""
    return click.option(flag, field, type=Size(), help=text)


def _flag(name: str, text: str) -> Callable[[Any], Any]:
    """Return an option without a value."""
    return click.option(name, is_flag=True, default=None, help=text)


array_option = click.option(
    "--array", metavar="INDICES",
    help="Run the job once for each index, such as 0-99, 0-98:2 or 1,7; at most 10000. Each job"
    " finds its own in MUTIRAO_ARRAY_INDEX. With 0-99%20 at most 20 of them run at once.",
)  # fmt: skip
JOB_OPTIONS: Final = (
    click.option("--name", help="A name for people; none by default."),
    click.option("--cpus", type=click.IntRange(1), metavar="N", help="Processors; default 1."),
    _size(
        "--memory",
        "memory_mib",
        "Memory, such as 2G, including files in /dev/shm; default 512M.",
    ),
    _size(
        "--disk",
        "disk_mib",
        "Disk, such as 4G, for /out, /tmp and /scratch together, for the log, and for an image that"
        " unpacks to more than four times its size; default 1G.",
    ),
    _flag(
        "--disk-in-memory",
        "Keep /out, /tmp and /scratch in memory, for many small files: they count as --memory, each"
        " has at most --disk, and /out has --output-size.",
    ),
    _size(
        "--output-size",
        "output_mib",
        "The most that is fetched from /out, such as 1G; default --disk less --log-size. With"
        " --disk-in-memory the size of /out; default 256M, or half of --disk.",
    ),
    _size(
        "--log-size",
        "log_mib",
        "Maximum size of the log, such as 64M; default 16M, or a quarter of --disk.",
    ),
    click.option(
        "--processes",
        type=click.IntRange(1),
        metavar="N",
        help="Maximum number of processes and threads at a time; default 256.",
    ),
    click.option("--gpus", type=click.IntRange(0), metavar="N", help="GPUs; default 0."),
    click.option(
        "--gpu-class",
        metavar="CLASS",
        help="GPU class, such as rtx-4090 or h200 (see `mutirao offers`); default any.",
    ),
    _size("--vram", "vram_mib", "Memory of each GPU, such as 20G; default any."),
    _size(
        "--shm-size",
        "shm_mib",
        "Size of /dev/shm, for data loaders, such as 8G: it counts as the job's memory; default"
        " half of --memory.",
    ),
    click.option(
        "--timeout",
        "timeout_ms",
        type=Duration(),
        help="Time limit, such as 90s, 10m or 2d; default 1h. Then the job is stopped.",
    ),
    click.option(
        "--max-price",
        type=HourlyPrice(),
        metavar="CREDITS",
        help="The most that an hour may cost; a provider without competitors gets exactly this"
        " price. Default: requester.price_max_hour if set, else the lowest list price of the"
        " providers that can run the job, raised by steps if nobody bids.",
    ),
    click.option(
        "--cap-percent",
        type=click.IntRange(100, 10_000),
        metavar="N",
        help="Without --max-price: how far the price may be raised, in percent of the median list"
        " price; default 200 (requester.cap_percent).",
    ),
    click.option("--profile", type=click.Choice(["vickrey", "quick"]), help=PROFILES),
    click.option("--region", help="Only providers of this region, such as europe; default any."),
    click.option(
        "--isolation",
        type=click.Choice(TIERS),
        help="The weakest sandbox that will do; default container.",
    ),
    click.option(
        "--where",
        metavar="QUERY",
        help="Only providers that a query selects, as in `mutirao offers QUERY`; default any.",
    ),
    click.option(
        "--retries",
        type=click.IntRange(0),
        metavar="N",
        help="Further attempts if a provider fails; default 2 (requester.retries).",
    ),
    click.option(
        "--queue-timeout",
        "queue_ms",
        type=Duration(),
        help="How long the job waits for capacity, such as 10m; default 1h. 0: it asks once.",
    ),
    click.option(
        "--priority",
        type=click.IntRange(-10, 10),
        metavar="N",
        help="-10 to 10, default 0: a job of a higher priority goes before your earlier jobs, by"
        " 10 minutes a step.",
    ),
    click.option(
        "--retry-on-exit",
        type=click.IntRange(0, 16),
        metavar="N",
        help="Run the job again elsewhere, up to N times, if it ends with an error; default 0. The"
        " same error on two nodes ends it: then it is the job's own.",
    ),
    click.option(
        "--checkpoint",
        metavar="PATH",
        help="A file or folder below /out, such as /out/checkpoint, from which the job continues on"
        " another provider. The job puts it there by a rename.",
    ),
    click.option(
        "--checkpoint-every",
        "checkpoint_ms",
        type=Duration(),
        help="How often it is taken if it has changed, 5s to 1d; default 1m.",
    ),
    click.option(
        "--driver",
        "drivers",
        multiple=True,
        metavar="NAME",
        help="Use only nodes with this sandbox, docker or embedded; may be repeated. Default any.",
    ),
    click.option(
        "--start-percent",
        type=click.IntRange(0, 1_000),
        metavar="N",
        help="How many percent more each minute of earlier start is worth; default 0: only prices"
        " count.",
    ),
    _flag(
        "--hard-limits",
        "Use only nodes whose kernel enforces every limit of a job (`offers` shows soft ones).",
    ),
    click.option(
        "--allow-net",
        type=Names(),
        default=(),
        metavar="NAMES",
        help="What the job may reach through the provider's proxy: names such as"
        " pypi.org,*.example.org, the sets pypi and huggingface, or any; default nothing.",
    ),
    click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="PATH[:NAME]",
        help="A file or folder that the job sees as /in/NAME, read-only; may be repeated.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="What to leave out of input folders, as in .gitignore; may be repeated. A folder's own"
        " patterns are in its .mutiraoignore. A pattern with ! keeps.",
    ),
    click.option(
        "--no-default-excludes",
        "default_excludes",
        is_flag=True,
        flag_value=False,
        default=None,
        help="Also send what is left out by default: .git, __pycache__ and .venv.",
    ),
    click.option(
        "--workdir",
        metavar="PATH",
        help="The folder that the command starts in, such as /in/project or /tmp; default: that of"
        " the only --input that is a folder without :NAME, else the image's.",
    ),
    click.option(
        "--env",
        "env",
        multiple=True,
        metavar="NAME=VALUE",
        help="A variable of the job's environment; may be repeated.",
    ),
    click.option(
        "--pull",
        type=click.Choice(["missing", "always", "never"]),
        help="When the image is pulled from its registry: if it is missing here, the default,"
        " always, or never.",
    ),
    array_option,
    click.option(
        "--nodes",
        type=click.IntRange(1, 64),
        metavar="N",
        help="Run a gang: N members at the same time, each with these resources, or none. Each"
        " finds its MUTIRAO_RANK and all MUTIRAO_MEMBERS.",
    ),
    _flag("--same-region", "With --nodes: all members in one region, the cheapest that has room."),
    _flag("--spread-regions", "With --nodes: each member in a region of its own."),
    click.option(
        "--max-round-trip",
        "max_round_trip_us",
        type=RoundTrip(),
        help="With --nodes: the longest round trip between any two members, such as 20ms or 500us."
        " They measure it before the job starts.",
    ),
)


def job_options(function: Function) -> Function:
    """Give a command all options that describe a job."""
    for option in reversed(JOB_OPTIONS):
        function = option(function)
    return function
