"""HTTP faces: the static repository.

Knows HTTP and stores; what the bytes mean is for others.
"""
