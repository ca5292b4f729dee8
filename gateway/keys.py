"""API keys from the Secret's files: one for each client, named as the client, one key a line."""

import logging
import re
from pathlib import Path

log = logging.getLogger(__name__)
CLIENT = re.compile(r"[A-Za-z0-9][-A-Za-z0-9_.]{0,62}")
KEY = re.compile(r"[\x21-\x7e]{8,}")  # what a header can carry, and no shorter


def read(folder: Path) -> dict[str, list[str]]:
    """Keys by client. One that can't be used is left out and said, without the key itself: a mistake in one client's
    entry must not keep the others out."""
    found: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or not path.is_file():  # Kubernetes' own links
            continue
        if not CLIENT.fullmatch(path.name):
            log.error("the Secret's entry %r is no name for a client: letters, digits, '-', '_' and '.'", path.name)
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1):
            key = line.strip()
            if not key:
                continue
            if not KEY.fullmatch(key):
                log.error("line %d of client %s: a key has 8 or more letters, digits and signs", number, path.name)
            elif key in owner:
                log.error("line %d of client %s: %s has this key already", number, path.name, owner[key])
            else:
                owner[key] = path.name
                found.setdefault(path.name, []).append(key)
    return found
