"""The process that supervises one container and outlives the daemon that started it.

Nothing here imports more than the standard library, and of that only what starts fast: no typing,
json, signal, subprocess, dataclasses or pathlib. A runner is up in about 15 ms.

Spec: specs/sandbox.md#runner.
"""
