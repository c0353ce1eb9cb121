"""The services behind the local API.

Spec: specs/rpc.md#service.
"""
