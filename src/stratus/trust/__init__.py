"""Keys and signatures: a repository's own keys, and later those of its writers.

Knows bytes and values; no store, no network.
"""
