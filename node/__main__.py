"""`python -m node` is the program `mutirao`.

Spec: specs/rpc.md#command-line.
"""

from node.cli import main

main()
