"""Sources to objects and entries: archives and directory trees, read as streams with bounded memory.

Yields what is to be stored and what the tree shall hold; it never uploads and knows no repository.
"""
