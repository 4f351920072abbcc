"""The cloud functions, one module each: decode an event, call a package of a lower row, encode a reply.

Stateless, budgeted in time and memory, safe to kill anywhere and to run twice. Know kinds and replies; no HTTP, and not
who runs them.
"""
