"""VRAM from moment to moment: bars that add up, histories that end with the latest."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from hive import bars, usage
from tests.unit.hive.doctor.objects import device, lease, state
from vram_agent.api import GIB, State

FULL = state(device(leased=8 * GIB, foreign=GIB, free=14 * GIB + 3 * GIB // 4), leases=(lease("b"), lease("a")))


def shown(states: dict[str, State], *samples: dict[str, State], trouble: str = "") -> str:
    history = usage.History()
    for sample in samples:
        history.add(sample)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(usage.show(states, history, 120, trouble))
    return console.export_text()


def test_segments_add_up_to_the_device() -> None:
    (it,) = FULL.devices
    found = usage.segments(it, FULL.leases)
    assert [(one.label, one.bytes // GIB) for one in found[:3]] == [("a", 4), ("b", 4), ("without a lease", 1)]
    assert sum(one.bytes for one in found) == it.total
    assert usage.in_use(it, FULL.leases) == 7 * GIB


def test_what_is_kept_for_others_shrinks_as_they_come() -> None:
    alone = usage.segments(device(), ())
    assert [(one.label, one.bytes) for one in alone] == [("kept", 3 * GIB // 4), ("free", 23 * GIB + GIB // 4)]
    shared = usage.segments(device(foreign=GIB // 4), ())
    assert [one.bytes for one in shared[:2]] == [GIB // 4, GIB // 2]


def test_a_lease_of_another_device_is_not_drawn_here() -> None:
    assert usage.segments(device("GPU-1"), FULL.leases)[0].label == "kept"
    assert usage.in_use(device("GPU-1"), FULL.leases) == 0


def test_a_device_without_a_sample_can_be_drawn() -> None:
    lost = state(device(total=0, free=0, error="fell off the bus"))
    assert "fell off the bus" in shown({"n1": lost}, {"n1": lost})


def test_the_view_names_models_sizes_and_nodes_only_where_there_are_several() -> None:
    text = shown({"n1": FULL}, {"n1": FULL})
    for words in ("▏a█", "▏b█", "free 14.75 GiB of 24.00 GiB", "in use 7.00 GiB", "GPU-0"):
        assert words in text
    assert "n1" not in text
    both = shown({"n1": FULL, "n2": FULL})
    assert "n1 GPU-0" in both
    assert "n2 GPU-0" in both


def test_what_is_not_of_this_moment_is_said() -> None:
    assert "no agent answers" in shown({"n1": FULL}, trouble="no agent answers")


def test_history_is_bounded_and_ends_with_the_latest() -> None:
    history = usage.History()
    for foreign in range(usage.REMEMBERED + 1):
        history.add({"n1": state(device(total=usage.REMEMBERED, foreign=foreign))})
    found = history.of("n1", "GPU-0")
    assert len(found) == usage.REMEMBERED
    assert found[-1] == 1.0
    assert history.of("n1", "GPU-9") == []


def test_columns_grow_from_the_bottom() -> None:
    assert bars.history([0, 0.25, 0.5, 1], width=5, height=2) == ["    █", "  ▄██"]
    assert bars.history([0, 0.5, 1], width=2, height=1) == ["▄█"]


@given(st.lists(st.floats(-1, 2), max_size=30), st.integers(1, 20), st.integers(1, 4))
def test_a_history_fills_its_place(values: list[float], width: int, height: int) -> None:
    rows = bars.history(values, width, height)
    assert [len(row) for row in rows] == [width] * height


@pytest.mark.parametrize("width", [1, 7, 80])
def test_a_bar_fills_its_width(width: int) -> None:
    (it,) = FULL.devices
    line = bars.bar(usage.segments(it, FULL.leases), width, ["a", "b"])
    assert len(line.plain) == width
