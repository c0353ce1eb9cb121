"""What the local API asks for is answered here.

Spec: specs/rpc.md#service.
"""
