"""The read-only file system: local cache, FUSE protocol, mount.

Knows a tree of rows and a function that fetches objects; nothing of how they came to be.
"""
