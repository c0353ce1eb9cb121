"""The local API: HTTP with JSON over a Unix socket, for the command line and other programs.

Only this folder imports FastAPI, pydantic and hypercorn.
Spec: specs/rpc.md.
"""
