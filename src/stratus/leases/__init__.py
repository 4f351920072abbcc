"""Short-term, exclusive rights to change sub trees, kept by conditional writes on one object per lease.

Flows only. Knows claims and paths; nothing of what is changed under a lease, and nothing of signatures.
"""
