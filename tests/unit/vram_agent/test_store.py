"""The ledger's file: it comes back as it was, or it is known to be broken."""

import hashlib
import json
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from vram_agent.api import LeaseState
from vram_agent.records import Entry, Process
from vram_agent.store import CorruptError, Saved, Store

ENTRY = Entry(
    id="r1",
    model="qwen3-8b",
    bytes=22 << 30,
    devices=("GPU-a", "GPU-b"),
    holder=Process(pid=10, start=100),
    since=1.5,
    state=LeaseState.ACTIVE,
    processes={Process(pid=10, start=100), Process(pid=11, start=101)},
    departed={9: 1.5},
    residual={"GPU-a": 5, "GPU-b": 6},
    planned=20 << 30,
    fingerprint="print",
    told=True,
)
SAVED = Saved([ENTRY], {"print": 3 << 20}, 7)
NOTHING = Saved([], {}, 0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "leases.json")


def load(store: Store) -> Saved:
    """As the next agent does."""
    return Store(store.path).load()


def test_every_field_comes_back(store: Store) -> None:
    store.save(SAVED)
    assert load(store) == SAVED


def test_the_order_comes_back(store: Store) -> None:
    entries = [Entry(id, "m", 1, ("gpu0",), Process(1, 1), 0.0) for id in ("b", "a", "c")]
    store.save(Saved(entries, {}, 0))
    assert load(store).entries == entries


def test_no_file_is_no_leases(store: Store) -> None:
    assert load(store) == NOTHING


def test_saving_replaces_what_was_there(store: Store) -> None:
    store.save(SAVED)
    store.save(NOTHING)
    assert load(store) == NOTHING
    assert list(store.path.parent.iterdir()) == [store.path], "nothing else stays behind"


@pytest.mark.parametrize("kept", [0, 1, 50, -1])
def test_a_torn_file_is_corrupt(store: Store, kept: int) -> None:
    store.save(SAVED)
    store.path.write_bytes(store.path.read_bytes()[:kept])
    torn = store.path.read_bytes()
    with pytest.raises(CorruptError, match=str(store.path)):
        load(store)
    assert store.path.with_suffix(".corrupt").read_bytes() == torn
    assert load(store) == NOTHING


def test_a_changed_file_is_corrupt(store: Store) -> None:
    store.save(SAVED)
    store.path.write_text(store.path.read_text().replace("qwen3-8b", "qwen3-9b"))
    with pytest.raises(CorruptError, match="checksum"):
        load(store)


def _signed(body: str) -> str:
    return json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest(), "ledger": body})


@pytest.mark.parametrize(
    "text",
    ["null", "5", "[]", "{}", '{"ledger": 5, "sha256": ""}', '{"ledger": null}', "\x00\x00", _signed('[{"id": 1}]')],
)
def test_any_other_text_is_corrupt(store: Store, text: str) -> None:
    store.path.write_text(text)
    with pytest.raises(CorruptError):
        load(store)


def test_a_write_that_fails_half_way_leaves_the_old_file(store: Store) -> None:
    """The kernel takes the first 64 bytes of the new file and no more, as a full disk would."""
    store.save(SAVED)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.save(NOTHING)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load(store) == SAVED
    store.save(NOTHING)
    assert load(store) == NOTHING


def test_what_every_round_finds_out_anew_is_not_written(store: Store) -> None:
    store.save(SAVED)
    store.path.unlink()
    store.save(Saved([replace(ENTRY, used={"GPU-a": 7}, observed=True)], SAVED.overheads, 8))
    assert not store.path.exists()
    store.save(Saved([replace(ENTRY, state=LeaseState.DRAINING)], SAVED.overheads, 8))
    assert store.path.exists()
