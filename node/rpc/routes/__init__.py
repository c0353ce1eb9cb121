"""The routes of the API, one file for each kind of resource.

Spec: specs/rpc.md#routes.
"""
