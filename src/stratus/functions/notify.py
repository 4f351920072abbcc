"""Telling webhooks of a revision: a signed POST to each URL of the settings, tried again until it is taken, or a day
has passed.

What is sent is the notification of the newest revision, which may be newer than the one that the event is about: who
was away hears of the present, not of the past. A webhook that fails has one step, ``steps/notify/<hash of its URL>``,
however many revisions it missed. Redirects are not followed: the list of the owner says who is told.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import msgspec
import urllib3

from stratus._version import __version__
from stratus.errors import StratusError
from stratus.formats import notification, records
from stratus.formats.notification import Notification
from stratus.formats.records import Settings
from stratus.formats.step import Step
from stratus.functions.asked import layout_of
from stratus.functions.contract import Context, Event, Reply
from stratus.repository.layout import Layout
from stratus.stores.contract import Store
from stratus.stores.retries import passes, reason
from stratus.trust import webhook_signatures
from stratus.trust.keys import RepositoryKeys

KIND = "notify"
_TRIES = 3
_FIRST_PAUSE = 0.5  # seconds; doubled each time
_TIMEOUT = 5.0  # seconds, to connect and for each piece of the answer
_REST = 3.0  # seconds that are left to the steps
_AT_ONCE = 8
_FIRST_DELAY = timedelta(minutes=1)  # until a step is due; four times as long each time
_LAST_DELAY = timedelta(hours=6)
_ATTEMPTS = 8  # of a step; the last one is a day after the first failure


class _Webhook(msgspec.Struct, frozen=True):
    """A URL of the settings, and its step if it failed before."""

    url: str
    id: str
    step: Step | None

    @property
    def host(self) -> str:
        """What may be logged: paths are often secrets."""
        try:
            return urlsplit(self.url).hostname or "a webhook without a host"
        except ValueError:
            return "a webhook that is no URL"

    @property
    def is_failing(self) -> bool:
        return self.step is not None and self.step.due is not None


def notify(event: Event, context: Context) -> Reply:
    """``notify``: a revision was made (``revision``, ``root``), or the step of a webhook is due (``id``).

    The reply says how many webhooks took it. Raises StoreError, NotPermitted without keys.
    """
    layout = layout_of(event)
    store = context.stores(layout.fqrn)
    only = event.parameters.get("id")
    webhooks = _webhooks(layout, store, only)
    if not webhooks:
        return Reply(204)
    found = Notification.of(store.get(layout.manifest).data)
    sender = _Sender(found.pack(), context.secrets.repository_keys(layout.fqrn), context)
    with ThreadPoolExecutor(min(len(webhooks), _AT_ONCE)) as threads:
        failures = list(threads.map(sender.send, webhooks))
    for webhook, failure in zip(webhooks, failures, strict=True):
        given_up = _note(layout, store, webhook, failure, only is not None)
        if failure is not None:
            until = "; it is given up until the next revision" if given_up else ""
            context.log.warning("%s was not told of %s: %s%s", webhook.host, layout.fqrn, failure, until)
    told = failures.count(None)
    body = {"revision": found.revision, "told": told, "failed": len(failures) - told}
    return Reply(200, json.dumps(body).encode())


def _webhooks(layout: Layout, store: Store, only: str | None) -> list[_Webhook]:
    """All of the settings, or the one whose step is due. The step of one that is not there any more ends."""
    settings = records.parse(store.get(layout.settings).data, Settings)
    urls = {_id(url): url for url in settings.webhooks}
    if only is not None:
        if only not in urls:
            store.put(layout.step(KIND, only), Step(kind=KIND, id=only).pack())
        urls = {only: urls[only]} if only in urls else {}
    keys = {layout.step(KIND, webhook): webhook for webhook in urls}
    steps = {
        keys[key]: Step.parse(blob.data) for key, blob in (store.get_many(keys) if keys else ()) if blob is not None
    }
    return [_Webhook(url, webhook, steps.get(webhook)) for webhook, url in urls.items()]


def _id(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:20]


def _note(layout: Layout, store: Store, webhook: _Webhook, failure: str | None, is_due: bool) -> bool:
    """What is to be done later, or that nothing is; ``is_due``: it was the step's turn. Says whether it is given up."""
    pending = webhook.step if webhook.is_failing else None
    step, given_up = Step(kind=KIND, id=webhook.id), False
    if failure is None and pending is None:
        return False
    if failure is not None and pending is not None and not is_due:
        return False  # it has its step already
    if failure is not None:
        attempt = 1 if pending is None else pending.attempt + 1
        given_up = attempt > _ATTEMPTS
        if not given_up:
            due = store.now() + min(_FIRST_DELAY * 4 ** (attempt - 1), _LAST_DELAY)
            step = Step(kind=KIND, id=webhook.id, due=due, attempt=attempt, body={"failure": failure})
    store.put(layout.step(KIND, webhook.id), step.pack())
    return given_up


class _Sender(msgspec.Struct, frozen=True):
    message: bytes
    keys: RepositoryKeys
    context: Context

    def send(self, webhook: _Webhook) -> str | None:
        """Tries until it is taken; gives why it was not. One that was failing before is tried once."""
        failure, lasts = "there was no time", False
        with urllib3.PoolManager(retries=False) as pool:
            for attempt in range(1 if webhook.is_failing else _TRIES):
                if attempt:
                    time.sleep(_FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.5, 1))
                left = self.context.seconds_left - _REST
                if left <= 0 or lasts:
                    break
                try:
                    status = self._post(pool, webhook.url, min(left, _TIMEOUT))
                except StratusError as error:
                    return error.message
                except urllib3.exceptions.LocationValueError:
                    return "its URL is none of http or https"
                except urllib3.exceptions.HTTPError as error:
                    failure = reason(error) or type(error).__name__
                    continue
                if 200 <= status < 300:
                    return None
                failure, lasts = f"it answered {status}", not passes(status)
        return failure

    def _post(self, pool: urllib3.PoolManager, url: str, timeout: float) -> int:
        """The status of the answer, whose body nobody wants."""
        signature = webhook_signatures.sign(
            url, notification.MEDIA_TYPE, self.message, self.keys, datetime.now(UTC).replace(microsecond=0)
        )
        headers = {"User-Agent": f"stratus/{__version__}", **signature}
        response = pool.request(
            "POST", url, body=self.message, headers=headers, redirect=False, timeout=timeout, preload_content=False
        )
        response.close()
        return response.status
