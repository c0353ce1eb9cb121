"""Durable state: one SQLite file with one writer, through aiosqlite.

Only this folder imports aiosqlite and asyncio.
Spec: specs/storage.md.
"""
