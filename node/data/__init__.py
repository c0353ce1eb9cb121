"""Blobs by digest: kept on disk, moved between peers, put together to images.

Spec: specs/data.md.
"""
