"""Small functions for the runtime to run: the kind says what an event does."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from stratus.functions.contract import Context, Event, Reply


def dispatch(event: Event, context: Context) -> Reply:
    what = event.parameters.get("do", "tell")
    match what:
        case "tell":
            return Reply(200, json.dumps({"pid": os.getpid(), "threads": threading.active_count()}).encode())
        case "sleep":
            _note(event, "begins")
            time.sleep(float(event.parameters["seconds"]))
            _note(event, "ends")
            return Reply(200)
        case "hold":
            _note(event, "begins")
            while not Path(event.parameters["until"]).exists():
                time.sleep(0.01)
            _note(event, "ends")
            return Reply(200)
        case "eat":
            eaten = [bytes(1 << 20) for _ in range(int(event.parameters["mib"]))]
            return Reply(200, str(len(eaten)).encode())
        case "multiply":
            import numpy

            threads = [threading.Thread(target=time.sleep, args=(0.1,)) for _ in range(8)]
            for thread in threads:
                thread.start()
            numpy.ones((300, 300)) @ numpy.ones((300, 300))
            return Reply(200)
        case "die":
            if "notes" in event.parameters:
                _note(event, "dies")
            os._exit(7)
        case "raise":
            raise ValueError("something is wrong")
        case "count":
            store = context.stores(event.repository)
            store.put("counted", b"1")
            return Reply(200, str(context.meter.requests.put).encode())
        case "context":
            keys = context.secrets.repository_keys(event.repository)
            context.recent(event.repository)
            left = context.seconds_left
            told = {"fqrn": keys.fqrn, "left": left, "memory": context.memory, "gone": context.is_gone(context.process)}
            return Reply(200, json.dumps(told).encode())
        case "follow":
            kind, parameters = (
                event.parameters["then"],
                {**event.parameters, "do": event.parameters.get("what", "sleep")},
            )
            ids = [f"{event.id}-{number}" for number in range(int(event.parameters["times"]))]
            return Reply(202, follow_ups=tuple(Event(kind, each, event.repository, parameters) for each in ids))
        case _:
            return Reply(404)


def _note(event: Event, what: str) -> None:
    with Path(event.parameters["notes"]).open("a") as notes:
        notes.write(f"{what} {event.kind} {event.repository} {event.id} {event.attempt}\n")
