"""Commands about images: pull, build or import one, build a small one, list them.

Spec: specs/rpc.md#command-line.
"""

from pathlib import Path
from typing import Any, Final

import click

from node.cli.connection import LONG_S, Connection
from node.cli.failure import CliError
from node.cli.options import LINES, reaches_node
from node.cli.output import instant, show_fields, show_json, show_table

FORMS: Final = "an image is what `docker save` writes, an OCI archive or an OCI folder"


@click.group(invoke_without_command=True)
@click.pass_context
def image(context: click.Context) -> None:
    """Pull, import, build and list images.

    Example: mutirao image pull python:3.12-slim
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@image.command("import")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@reaches_node()
def import_image(*, path: Path, node: Connection, as_json: bool) -> None:
    """Import an image from a `docker save` archive, an OCI archive or an OCI folder.

    Example: docker save python:3.12 -o python.tar && mutirao image import python.tar
    """
    try:
        view = node.post("/images", {"path": str(path.absolute())}, timeout_s=LONG_S)
    except CliError as failure:
        if failure.code != "invalid-request" or str(path) in failure.detail:
            raise
        raise CliError(failure.code, f"{path}: {failure.detail}", failure.hint or FORMS) from None
    _show(view, as_json=as_json)


@image.command("build-base")
@reaches_node()
def build_base(*, node: Connection, as_json: bool) -> None:
    """Build a small image from this machine's own Python and shell.

    Example: mutirao image build-base && mutirao run base -- python3 --version
    """
    _show(node.post("/images/base", timeout_s=LONG_S), as_json=as_json)


@image.command("build")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--name", metavar="NAME", help="The image's name; default: that of the folder.")
@click.option(
    "--file",
    "dockerfile",
    default="Dockerfile",
    metavar="PATH",
    help="The Dockerfile, below the folder; default Dockerfile.",
)
@reaches_node(LINES)
def build_image(
    *, folder: Path, name: str | None, dockerfile: str, node: Connection, as_json: bool
) -> None:
    """Build the image of a folder with a Dockerfile, where a Docker Engine answers.

    Example: mutirao image build . --name train && mutirao run train -- python3 train.py
    """
    from node.cli.pull import build

    path = folder.absolute().resolve()
    body = {"path": str(path), "name": name or path.name.lower(), "dockerfile": dockerfile}
    view = build(node, body, tell=show_json if as_json else None)
    if not as_json:
        _show(view, as_json=False)


@image.command("pull")
@click.argument("reference")
@click.option(
    "--platform",
    default="",
    metavar="OS/ARCH",
    help="Such as linux/arm64; default: that of this machine.",
)
@reaches_node(LINES)
def pull_image(*, reference: str, platform: str, node: Connection, as_json: bool) -> None:
    """Pull an image from a registry, without an engine.

    REFERENCE is completed as Docker does. Layers that are here already are not fetched again. A
    pull that was interrupted continues where it stopped. `docker login` gives credentials.

    \b
    Examples:
      mutirao image pull python:3.12-slim
      mutirao image pull ghcr.io/owner/name@sha256:…
    """  # noqa: D301 - \b is click's mark for lines to be kept.
    from node.cli.pull import pull

    view = pull(node, reference, platform, as_json=as_json, tell=show_json if as_json else None)
    if not as_json:
        _show(view, as_json=False)


@image.command("list")
@reaches_node(LINES)
def list_images(*, node: Connection, as_json: bool) -> None:
    """List the images that the node keeps.

    Example: mutirao image list
    """
    found = node.get("/images")
    if as_json:
        for view in found:
            show_json(view)
        return
    rows = [
        (", ".join(each["names"]) or "-", each["digest"], _mib(each), instant(each["created_ms"]))
        for each in found
    ]
    show_table(("NAMES", "DIGEST", "SIZE", "CREATED"), rows)


def _show(view: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        show_json(view)
        return
    names = ", ".join(view["names"]) or None
    show_fields([("names", names), ("digest", view["digest"]), ("size", _mib(view))])


def _mib(view: dict[str, Any]) -> str:
    return f"{view['size'] / 2**20:.1f} MiB"


COMMANDS: Final = {"image": image}
