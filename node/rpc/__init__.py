"""The local API: HTTP with JSON over a Unix socket, for the command line and other programs.

FastAPI, pydantic and hypercorn are imported in this folder and nowhere else.
Spec: specs/rpc.md.
"""
