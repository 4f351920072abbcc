"""Keys, signatures and tokens: a repository's own keys, and what its writers prove who they are with; secret providers.

Knows bytes and values, no store. The network only as far as token issuers and secret providers are there.
"""
