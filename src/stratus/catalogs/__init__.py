"""A tree of catalogs: look up, list, walk, compare; and the edit engine that applies change sets to it.

Knows rows, nesting, counters and link counts. No queue, no network of its own: reading takes a function that loads a
catalog, editing is a flow.
"""
