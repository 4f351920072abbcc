"""Bytes to values and back, for every format of a repository.

Pure: no network, no clock, no configuration. Knows nothing of stores or of how trees are put together from several
catalogs. What the stock tools define is described in the CernVM-FS sources; each module names the rules that it keeps.
"""
