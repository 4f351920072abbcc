"""The functions on AWS Lambda: ``api.handler`` for HTTP, ``events.handler`` for queues, schedules and S3's events.

Told by the environment (``runtimes.settings``); ``deploy/aws`` has the template that sets it.
"""
