"""Sending events to SQS, by requests of our own: the client of the SDK takes longer to make than they take."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import botocore.session
import urllib3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from stratus.functions.contract import Event
from stratus.runtimes import envelopes

_ATTEMPTS = 3
_FIRST_PAUSE = 0.1  # seconds; doubled each time
_TIMEOUT = 3.0  # seconds

log = logging.getLogger(__name__)


class Queues:
    """The queues for events, by kind; thread-safe."""

    def __init__(self, urls: Mapping[str, str]) -> None:
        """Nothing is contacted yet."""
        self._urls = urls
        self._session = botocore.session.get_session() if urls else None
        self._pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    def send(self, event: Event) -> bool:
        """Whether a queue took it; what gets lost is found by ``tend``."""
        url = self._urls.get(event.kind)
        if url is None or self._session is None:
            log.warning("%s of %s: there is no queue for it", event.kind, event.repository)
            return False
        body = json.dumps({"QueueUrl": url, "MessageBody": envelopes.pack(event).decode()}).encode()
        failure = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1))
            try:
                reply = self._pool.request("POST", _endpoint(url), body=body, headers=self._headers(url, body))
            except urllib3.exceptions.HTTPError as error:
                failure = type(error).__name__
                continue
            if reply.status == 200:
                return True
            failure = f"it answered {reply.status}"
            if reply.status < 500 and reply.status != 429:
                break
        log.warning("%s of %s was not taken by its queue: %s", event.kind, event.repository, failure)
        return False

    def _headers(self, url: str, body: bytes) -> dict[str, str]:
        assert self._session is not None
        request = AWSRequest(
            "POST",
            _endpoint(url),
            data=body,
            headers={"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "AmazonSQS.SendMessage"},
        )
        SigV4Auth(self._session.get_credentials(), "sqs", _region(url, self._session)).add_auth(request)
        return dict(request.headers)


def _endpoint(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"


def _region(url: str, session: botocore.session.Session) -> str:
    """As ``https://sqs.REGION.amazonaws.com/…`` says it; else that of the environment."""
    labels = (urlsplit(url).hostname or "").split(".")
    return labels[1] if labels[0] == "sqs" and len(labels) > 2 else session.get_config_variable("region") or "us-east-1"
