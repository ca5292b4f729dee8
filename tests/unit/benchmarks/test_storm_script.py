"""The storm's script: the seed fixes it, and hogs stay within their limit."""

import pytest

from benchmarks.vram_storm import script
from benchmarks.vram_storm.script import MIB, Ending

LIMIT = 300 * MIB


@pytest.fixture(scope="module")
def storm() -> script.Script:
    return script.write(seed=3, engines=300, rate=2.0, hog_limit=LIMIT)


def test_a_seed_fixes_everything(storm: script.Script) -> None:
    assert script.write(3, 300, 2.0, LIMIT) == storm
    assert script.write(4, 300, 2.0, LIMIT) != storm


def test_other_hogs_leave_the_engines_as_they_are(storm: script.Script) -> None:
    more = script.write(3, 300, 2.0, 2 * LIMIT)
    assert (more.engines, more.restarts) == (storm.engines, storm.restarts)
    assert more.hogs != storm.hogs


def test_hogs_together_stay_within_the_limit(storm: script.Script) -> None:
    for hog in storm.hogs:
        beside = [other for other in storm.hogs if other.at <= hog.at < other.at + other.lasts]
        assert sum(other.size for other in beside) <= LIMIT


def test_engines_use_at_most_their_budget_and_end_in_every_way(storm: script.Script) -> None:
    assert all(0.93 <= engine.peak <= 1.0 and engine.ready <= 1.0 for engine in storm.engines)
    assert {engine.ending for engine in storm.engines} == set(Ending)
    assert any(engine.hang_ups for engine in storm.engines)
    assert any(engine.patience for engine in storm.engines)


def test_the_agent_is_killed_ten_times_and_more(storm: script.Script) -> None:
    assert len(storm.restarts) >= 10
