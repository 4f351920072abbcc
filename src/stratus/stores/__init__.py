"""Places for objects: a directory, an S3 bucket, a read-only HTTP server, memory.

Knows keys, bytes, versions and conditional writes; nothing of what the bytes mean. ``contract.py`` is the seam that
everything else uses, ``opening.py`` turns a URL into a store, ``flows.py`` lets code that coordinates over a store
yield its requests instead of making them.
"""
