"""One way in for every change: lease, upload, submit, receipt; `publish` drives ingest through a writer.

The road differs (direct, API, gateway), the interface does not.
"""
