"""What things cost: meters that observe stores, and later price sheets, ledger and forecast.

Knows exchanges and counts; nothing of repositories.
"""
