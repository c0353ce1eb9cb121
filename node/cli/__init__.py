"""The command line: it talks to the daemon over its socket, and starts in a tenth of a second.

Only this folder imports click, h11 and rich. A command imports what it needs when it runs, so
`mutirao --help` and `mutirao status` load neither trio nor pydantic.
Spec: specs/rpc.md#command-line.
"""


def main() -> None:
    """Run the program `mutirao` with the arguments of this process, and exit with its code."""
    import sys

    from node.cli.program import run

    sys.exit(run(sys.argv[1:]))
