"""API keys from the Secret: an entry for each client, named as the client, one key a line."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)
CLIENT = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")
KEY = re.compile(r"[\x21-\x7e]{8,}")  # what a header can carry, and no shorter


def read(folder: Path) -> dict[str, list[str]]:
    """Keys by client, of a folder where the Secret is mounted; none where there is no such folder."""
    files = [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []
    # Those with a dot are Kubernetes' own links.
    return parse({path.name: path.read_text(errors="replace") for path in files if not path.name.startswith(".")})


def parse(entries: Mapping[str, str]) -> dict[str, list[str]]:
    """Keys by client, of the Secret's entries. One that can't be used is left out and said, without the key itself: a
    mistake in one client's entry must not keep the others out."""
    found: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for client, text in sorted(entries.items()):
        if not CLIENT.fullmatch(client):
            log.error("the Secret's entry %r is no name for a client: letters, digits, '-', '_' and '.'", client)
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            key = line.strip()
            if not key:
                continue
            if not KEY.fullmatch(key):
                log.error("line %d of client %s: a key has 8 or more letters, digits and signs", number, client)
            elif key in owner:
                log.error("line %d of client %s: %s has this key already", number, client, owner[key])
            else:
                owner[key] = client
                found.setdefault(client, []).append(key)
    return found
