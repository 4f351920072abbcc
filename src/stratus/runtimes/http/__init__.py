"""The functions as a container: the API, events as CloudEvents, probes; for Knative, Cloud Run, OpenFaaS, any host.

``python -m stratus.runtimes.http`` runs it, told by the environment (``runtimes.settings``). Inside, the local runtime
keeps each function to its time, memory and number at once.
"""
