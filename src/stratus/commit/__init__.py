"""Folds change sets into a new revision, exactly once.

Flows only: it yields store requests, so that tests can decide what fails when. Signing is passed in.
"""
