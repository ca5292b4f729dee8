"""The ledger's file: it comes back as it was, or it is known to be broken."""

import hashlib
import json
import resource
from pathlib import Path

import pytest

from vram_agent import store
from vram_agent.api import LeaseState
from vram_agent.ledger import Entry, Process

ENTRY = Entry(
    id="r1",
    model="qwen3-8b",
    bytes=22 << 30,
    devices=("GPU-a", "GPU-b"),
    holder=Process(pid=10, start=100),
    since=1.5,
    state=LeaseState.ACTIVE,
    processes={Process(pid=10, start=100), Process(pid=11, start=101)},
    departed={9},
    used={"GPU-a": 5, "GPU-b": 6},
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "leases.json"


def test_every_field_comes_back(path: Path) -> None:
    store.save(path, [ENTRY])
    assert store.load(path) == [ENTRY]


def test_the_order_comes_back(path: Path) -> None:
    entries = [Entry(id, "m", 1, ("gpu0",), Process(1, 1), 0.0) for id in ("b", "a", "c")]
    store.save(path, entries)
    assert store.load(path) == entries


def test_no_file_is_no_leases(path: Path) -> None:
    assert store.load(path) == []


def test_saving_replaces_what_was_there(path: Path) -> None:
    store.save(path, [ENTRY])
    store.save(path, [])
    assert store.load(path) == []
    assert list(path.parent.iterdir()) == [path], "nothing else stays behind"


@pytest.mark.parametrize("kept", [0, 1, 50, -1])
def test_a_torn_file_is_corrupt(path: Path, kept: int) -> None:
    store.save(path, [ENTRY])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(store.CorruptError, match=str(path)):
        store.load(path)


def test_a_changed_file_is_corrupt(path: Path) -> None:
    store.save(path, [ENTRY])
    path.write_text(path.read_text().replace("qwen3-8b", "qwen3-9b"))
    with pytest.raises(store.CorruptError, match="checksum"):
        store.load(path)


def _signed(body: str) -> str:
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "leases": body})


@pytest.mark.parametrize(
    "text",
    ["null", "5", "[]", "{}", '{"leases": 5, "sha256": ""}', '{"leases": null}', "\x00\x00", _signed('[{"id": 1}]')],
)
def test_any_other_text_is_corrupt(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(store.CorruptError):
        store.load(path)


def test_a_write_that_fails_half_way_leaves_the_old_file(path: Path) -> None:
    """The kernel takes the first 64 bytes of the new file and no more, as a full disk would."""
    store.save(path, [ENTRY])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.save(path, [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.load(path) == [ENTRY]
    store.save(path, [])
    assert store.load(path) == []
