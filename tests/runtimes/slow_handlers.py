"""A handler that takes its time."""

from __future__ import annotations

import time
from typing import Any

from stratus.runtimes.aws.warm import LambdaContext, seconds_left


def sleep(event: dict[str, Any], context: LambdaContext) -> dict[str, float]:
    time.sleep(event["seconds"])
    return {"left": seconds_left(context)}
