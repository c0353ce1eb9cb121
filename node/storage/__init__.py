"""What outlives a crash: one SQLite file, written by one writer, through aiosqlite.

The only folder that imports aiosqlite and asyncio.
Spec: specs/storage.md.
"""
