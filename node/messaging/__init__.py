"""Messages between this node and its peers: received, sent from the outbox, looked up.

Spec: specs/core.md#outbox.
"""
