"""What an operator should hear of: the log, the latest events for `hive status`, and their counts."""

import logging
import time
from collections import deque

from vram_agent import views
from vram_agent.api import Event, EventKind, Refusal
from vram_agent.ledger import Ledger
from vram_agent.metrics import Metrics
from vram_agent.processes import name

log = logging.getLogger("vram_agent")
EVENTS_KEPT = 100


class Journal:
    """One agent's.

    Args:
        metrics: where events are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._alarms: dict[tuple[str, EventKind], str] = {}

    def note(self, kind: EventKind, text: str, device: str | None = None, model: str | None = None) -> None:
        """One event, now."""
        self.events.append(Event(time=time.time(), kind=kind, text=text, device=device, model=model))
        self.metrics.event(kind)
        fields = {"event": kind, "device": device, "model": model}
        level = logging.INFO if kind is EventKind.CLEARED else logging.WARNING
        log.log(level, text, extra={"fields": {key: value for key, value in fields.items() if value}})

    def refused(self, model: str, refusal: Refusal) -> None:
        """A lease was not granted."""
        self.metrics.refused(refusal.reason)
        self.note(EventKind.REFUSED, refusal.error, device=refusal.device, model=model)

    def compare(self, ledger: Ledger, now: float) -> None:
        """Note what has begun to be wrong with a device since the last time, and what has ended."""
        present = {
            (device.id, kind): text
            for device in views.devices(ledger, now, name)
            for kind, text in views.alarms(device).items()
        }
        for key in present.keys() - self._alarms.keys():
            self.note(key[1], present[key], device=key[0])
        for key in self._alarms.keys() - present.keys():
            self.note(EventKind.CLEARED, f"{key[0]}: no longer {key[1]}", device=key[0])
        self._alarms = present
