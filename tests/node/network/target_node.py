"""A node in a process of its own, to be attacked: its memory and its time are nobody else's.

It says its address, answers each request with what it was asked, and publishes on "heard" what it
hears on "calls". It runs until its standard input is closed.

Usage: target_node.py <a name, from which its key is made>

Spec: specs/network.md.
"""

import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[3]))

from protocol.rules.verdict import Verdict
from tests.node.network.fixtures import echo, open_node

HEARD_MAX = 100


async def main(name: str) -> None:
    heard, to_say = trio.open_memory_channel[bytes](HEARD_MAX)

    def hear(_peer: str, data: bytes) -> Verdict:
        try:
            heard.send_nowait(data)
        except trio.WouldBlock:
            return Verdict.IGNORE
        return Verdict.ACCEPT

    async with open_node(name) as node, trio.open_nursery() as nursery:
        node.on_request(echo)
        node.subscribe("calls", hear)
        sys.stdout.write(node.addresses()[0] + "\n")
        sys.stdout.flush()

        async def say() -> None:
            async for data in to_say:
                await node.publish("heard", data)

        nursery.start_soon(say)
        await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
