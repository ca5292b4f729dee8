"""The ledger's file: leases survive a restart of the agent, as long as their processes live."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from vram_agent.records import Entry

# What every round finds out anew is not worth a write.
VOLATILE = {"entries": {"__all__": {"used", "observed", "unfit_since"}}}


class CorruptError(Exception):
    """The file is not one that this agent wrote whole."""


@dataclass
class Saved:
    """All that outlives the agent."""

    entries: list[Entry]
    overheads: dict[str, int]
    looked: int  # clock ticks since boot of a round that saw all processes until then


SAVED = TypeAdapter(Saved)


class Store:
    """The file, written whole or not at all: a new file, renamed over the old one.

    Args:
        path: on a tmpfs beside the socket.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = b""

    def save(self, saved: Saved) -> None:
        """Write what has changed since the last time, if anything has.

        Raises:
            OSError: it can't be written; the file still says what it said before.
        """
        content = SAVED.dump_json(saved, exclude=VOLATILE | {"looked": True})
        if content == self._last:
            return
        body = SAVED.dump_json(saved, exclude=VOLATILE).decode()
        text = json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "ledger": body})
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        os.replace(fresh, self.path)
        self._last = content

    def load(self) -> Saved:
        """What was last saved; nothing when there is no file.

        Raises:
            CorruptError: the file is torn or was changed by hand. It was moved aside, to `.corrupt`.
        """
        if not self.path.exists():
            return Saved(entries=[], overheads={}, looked=0)
        try:
            outer = json.loads(self.path.read_text())
            body = outer["ledger"]
            if hashlib.sha256(body.encode()).hexdigest() != outer["sha256"]:
                raise ValueError("its checksum is wrong")
            return SAVED.validate_json(body)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            aside = self.path.with_suffix(".corrupt")
            os.replace(self.path, aside)
            raise CorruptError(f"{self.path} can't be trusted ({error}) and was moved to {aside}") from error
