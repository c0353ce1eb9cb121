"""Repairs of libp2p 0.8.1 by patching, where neither an option nor a subclass suffices.

| what goes wrong for us                                        | repaired in                |
|---------------------------------------------------------------|----------------------------|
| a reader that pauses for five seconds breaks the stream       | repairs/blocked_writes.py  |
| every read, even of one byte, costs a frame on the wire       | repairs/window_updates.py  |
| every read and write of a stream costs a switch of tasks      | repairs/stream_state.py    |
| the windows of a peer's own streams grow to 16 MiB each        | repairs/window_growth.py   |
| a length-prefixed message in many small pieces is given up    | repairs/long_reads.py      |
| gossip to a peer is dropped once 32 messages wait for it      | repairs/gossip_queue.py    |
| gossip goes out in larger pieces than our peers take          | repairs/gossip_queue.py    |
| gossip that a peer asks for and does not read fills memory    | repairs/gossip_queue.py    |
| a long answer of the DHT stalls the node for many seconds     | repairs/dht_messages.py    |
| many tasks of one service stall the node for many seconds     | repairs/service_tasks.py   |
| a cancelled write breaks the whole connection                 | muxer.py (subclass)        |
| a peer that went silent is never noticed                      | muxer.py (subclass)        |
| a peer that ignores flow control fills our memory             | muxer.py (subclass)        |
| all windows together promise more memory than there is        | muxer.py (subclass)        |
| after 250 inbound connections in a life, no other is accepted | swarm.py (subclass)        |
| who came first holds all slots, and newcomers are refused     | swarm.py (subclass)        |
| one dead address hides the living one of the same peer        | swarm.py (subclass)        |
| a dialled peer that fails is blocked for a minute             | swarm.py (subclass)        |
| an exception in a stream handler ends the node                | stack.py (subclass)        |
| anybody may claim to be anybody over plaintext                | stack.py (noise only)      |
| two daemons share one port, and each loses half               | transport.py (subclass)    |
| malformed gossip ends the node                                | pubsub.py (subclass)       |
| one RPC of gossip starts thousands of tasks                   | pubsub.py (subclass)       |
| topics that a peer invents are remembered for good            | gossipsub.py (subclass)    |
| a peer names others, and they are dialled                     | gossipsub.py (subclass)    |
| a peer draws the same message from us thousands of times      | gossipsub.py (subclass)    |
| a peer that misses one message never learns our topics         | pubsub.py (subclass)       |
| twelve idle streams turn the DHT off                          | kademlia.py (subclass)     |
| data from strangers about peers evicts our own keys           | peerstore.py (subclass)    |
| a peer's data about itself fills our memory                   | peerstore.py (subclass)    |
| our DHT mixes with the public one                             | stack.py, kademlia.py      |

Spec: specs/network.md.
"""

from typing import Final

import libp2p

from node.network.repairs import (
    blocked_writes,
    dht_messages,
    gossip_queue,
    long_reads,
    service_tasks,
    stream_state,
    window_growth,
    window_updates,
)

AUDITED: Final = "0.8.1"


def apply() -> None:
    """Repair libp2p in this process. Repeated calls change nothing.

    Raises AssertionError on any version but the audited one: a repair of different code is worse
    than none.
    """
    found = libp2p.__version__
    assert found == AUDITED, f"libp2p {found} is installed, but {AUDITED} was audited"
    blocked_writes.apply()
    dht_messages.apply()
    gossip_queue.apply()
    long_reads.apply()
    service_tasks.apply()
    stream_state.apply()
    window_growth.apply()
    window_updates.apply()
