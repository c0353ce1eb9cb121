"""The paths of the API, one file for each kind of thing that they name.

Spec: specs/rpc.md#routes.
"""
