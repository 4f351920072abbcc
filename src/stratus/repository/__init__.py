"""A repository as a whole: create, open, settings, revisions, history, reflog, and the swap of the manifest.

Knows which objects make a revision and in which order they must be stored. Nothing of sources, queues or mounts.
"""
