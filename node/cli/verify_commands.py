"""The command verify: checks a fraud proof without a daemon or a network.

Spec: specs/fraud.md.
"""

from pathlib import Path
from typing import Final

import click

from node.cli.failure import CliError
from node.cli.options import OBJECT, json_option
from node.cli.output import instant, show_fields, show_json


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option(OBJECT)
def verify(*, file: Path, as_json: bool) -> None:
    """Check a fraud proof: whether a requester broke the rules of an auction, and how.

    It needs nothing but the file. The exit code is 0 if the fraud is proven; otherwise one line
    says why it is not.

    Example: mutirao verify ~/.local/share/mutirao/proofs/0f1e2d3c4b5a6978-wrong-price.proof
    """
    from protocol.rules.fraud import verify as finding_of
    from protocol.values.errors import InvalidProof, NothingProven
    from protocol.values.limits import PROOF_BYTES_MAX

    with file.open("rb") as opened:
        data = opened.read(PROOF_BYTES_MAX + 1)
    try:
        finding = finding_of(data)
    except (InvalidProof, NothingProven) as error:
        raise CliError(error.code, f"{file.name}: {error}") from None
    if as_json:
        show_json({
            "fraud": finding.fraud.code, "requester": finding.requester, "bidder": finding.bidder,
            "call": finding.call_id.hex(), "called_ms": finding.called_ms,
            "network_id": finding.network.hex(), "why": finding.why,
        })  # fmt: skip
        return
    show_fields([
        ("proven", finding.fraud.code),
        ("against", finding.requester),
        ("by", finding.bidder or "anybody who has both messages"),
        ("called", instant(finding.called_ms)),
        ("call", finding.call_id.hex()),
        ("why", finding.why),
    ])  # fmt: skip


COMMANDS: Final = {"verify": verify}
