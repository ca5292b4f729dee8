"""The ledger's file: leases survive a restart of the agent, as long as their processes live."""

import hashlib
import json
import os
from pathlib import Path

from pydantic import TypeAdapter

from vram_agent.ledger import Entry

ENTRIES = TypeAdapter(list[Entry])


class CorruptError(Exception):
    """The file is not one that this agent wrote whole."""


def save(path: Path, entries: list[Entry]) -> None:
    """Write all leases, whole or not at all: a new file, renamed over the old one."""
    body = ENTRIES.dump_json(entries).decode()
    text = json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "leases": body})
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def load(path: Path) -> list[Entry]:
    """The leases that were last saved; none when there is no file.

    Raises:
        CorruptError: the file is torn or was changed by hand.
    """
    if not path.exists():
        return []
    try:
        outer = json.loads(path.read_text())
        body = outer["leases"]
        if hashlib.sha256(body.encode()).hexdigest() != outer["sha256"]:
            raise ValueError("its checksum is wrong")
        return ENTRIES.validate_json(body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptError(f"{path}: {error}") from error
