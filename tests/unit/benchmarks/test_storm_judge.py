"""The storm's judges: they must see what is wrong, and nothing that is not. Sizes are in units, times in seconds."""

import pytest

from benchmarks.vram_storm import judge
from benchmarks.vram_storm.judge import NEVER, Life, Refusal, Rule
from benchmarks.vram_storm.records import Event, Facts, Records, Seen, SeenLease

RULE = Rule(capacity=1000, headroom=200)
PERIOD = 0.1  # between samples
END = 100  # samples
FIRST_PID = 10
OTHER = 999


class History:
    """Engines, each with a holder and a child, and samples in which those live that should."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.budgets: dict[str, int] = {}
        self.alive: dict[int, tuple[float, float]] = {}
        self.foreign: dict[int, tuple[float, float, int]] = {}

    def say(self, t: float, name: str, event: str) -> None:
        pid = FIRST_PID + 10 * list(self.budgets).index(name)
        self.events.append(Event(t, name, event, pid, pid + 1 if event == "forked" else None))

    def engine(
        self, name: str, budget: int, granted: float, ready: float, ends: float, orphan_until: float = 0.0
    ) -> None:
        """Asks 0.01 s before the grant; its holder ends, and so does its child unless it lives on as an orphan."""
        self.budgets[name] = budget
        for t, event in ((granted - 0.01, "asked"), (granted, "granted"), (granted, "forked")):
            self.say(t, name, event)
        if ready < ends:
            self.say(ready, name, "activating")
        pid = self.events[-1].pid
        self.alive[pid] = (granted - 0.01, ends)
        self.alive[pid + 1] = (granted, max(ends, orphan_until))
        if ends < NEVER:
            self.say(ends, name, "dying")

    def waiter(self, name: str, budget: int, asked: float, ends: float) -> None:
        self.budgets[name] = budget
        self.say(asked, name, "asked")
        self.say(ends, name, "died_waiting")
        self.alive[self.events[-1].pid] = (asked, ends)

    def refused(self, name: str, budget: int, asked: float, answered: float) -> None:
        self.budgets[name] = budget
        self.say(asked, name, "asked")
        self.say(answered, name, "refused")
        self.alive[self.events[-1].pid] = (asked, answered)

    def facts(self) -> list[Facts]:
        samples = []
        for number in range(END):
            t = number * PERIOD
            processes = {pid: 0 for pid, (start, end) in self.alive.items() if start <= t < end}
            processes |= {pid: size for pid, (start, end, size) in self.foreign.items() if start <= t < end}
            samples.append(Facts(t, 0, processes))
        return samples

    def lives(self) -> dict[str, Life]:
        return judge.lives(self.events, self.facts(), self.budgets)

    def worth(self, name: str) -> Refusal:
        return judge.refusals(self.lives(), self.facts(), RULE)[name]


@pytest.fixture
def history() -> History:
    return History()


class TestLives:
    def test_a_killed_holder_is_leaving_until_its_child_is_gone(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=1.5, ends=2.0, orphan_until=4.05)
        life = history.lives()["a"]
        assert (life.granted, life.answered, life.ready, life.leaving) == (True, 1.0, 1.5, 2.0)
        assert life.gone == pytest.approx(4.1)

    def test_a_death_that_nobody_told_of_is_seen_by_the_kernel(self, history: History) -> None:
        """An OOM kill: the last sign of life is the earliest time of the end."""
        history.engine("a", 100, granted=1.0, ready=1.5, ends=2.05)
        history.events = [event for event in history.events if event.event != "dying"]
        life = history.lives()["a"]
        assert life.leaving == pytest.approx(2.0)
        assert life.gone == pytest.approx(2.1)

    def test_who_lives_at_the_end_never_leaves(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=1.5, ends=NEVER)
        life = history.lives()["a"]
        assert (life.leaving, life.gone) == (NEVER, NEVER)


class TestOvercommit:
    def over(self, history: History) -> list[float]:
        return [one.t for one in judge.overcommits(history.lives(), history.facts(), RULE)]

    def test_full_is_not_over(self, history: History) -> None:
        history.engine("a", 400, granted=1.0, ready=1.5, ends=5.0)
        history.engine("b", 400, granted=2.0, ready=2.5, ends=5.0)
        history.foreign[OTHER] = (0.0, 9.0, 200)
        assert self.over(history) == []

    def test_one_byte_too_many(self, history: History) -> None:
        history.engine("a", 400, granted=1.05, ready=1.5, ends=5.0)
        history.engine("b", 401, granted=2.05, ready=2.5, ends=3.0)
        assert self.over(history) == pytest.approx([2.1 + PERIOD * n for n in range(9)])
        assert {one.bytes for one in judge.overcommits(history.lives(), history.facts(), RULE)} == {1}

    def test_foreign_memory_counts_where_it_exceeds_the_headroom(self, history: History) -> None:
        history.engine("a", 700, granted=1.0, ready=1.5, ends=5.0)
        history.foreign[OTHER] = (3.0, 3.25, 301)
        assert len(self.over(history)) == 3

    def test_a_successor_at_the_moment_of_a_death_is_fine(self, history: History) -> None:
        history.engine("a", 800, granted=1.0, ready=1.5, ends=2.0)
        history.engine("b", 800, granted=2.001, ready=2.5, ends=5.0)
        assert self.over(history) == []

    def test_an_orphan_still_has_its_bytes(self, history: History) -> None:
        history.engine("a", 800, granted=1.0, ready=1.5, ends=2.0, orphan_until=3.05)
        history.engine("b", 800, granted=2.05, ready=2.5, ends=5.0)
        assert len(self.over(history)) == 10

    def test_a_lease_that_is_not_granted_has_none(self, history: History) -> None:
        history.engine("a", 800, granted=1.0, ready=1.5, ends=5.0)
        history.waiter("b", 800, asked=2.0, ends=4.0)
        assert self.over(history) == []

    def test_by_the_agents_own_figures(self) -> None:
        full = (SeenLease("a", "ACTIVE", 500, 1), SeenLease("b", "STARTING", 300, 2), SeenLease("c", "PENDING", 900, 3))
        assert judge.shown_overcommits([Seen(1.0, 1.1, 200, full)], RULE) == []
        (over,) = judge.shown_overcommits([Seen(1.0, 1.1, 207, full)], RULE)
        assert (over.t, over.bytes) == (1.0, 7)


class TestRefusals:
    def test_what_did_not_fit(self, history: History) -> None:
        history.engine("a", 800, granted=1.0, ready=1.5, ends=9.0)
        history.foreign[OTHER] = (0.0, 9.0, 150)
        history.refused("b", 51, asked=5.0, answered=5.01)
        assert history.worth("b") is Refusal.RIGHT

    def test_what_the_headroom_kept_out(self, history: History) -> None:
        history.engine("a", 800, granted=1.0, ready=1.5, ends=9.0)
        history.foreign[OTHER] = (0.0, 9.0, 150)
        history.refused("b", 50, asked=5.0, answered=5.01)
        assert history.worth("b") is Refusal.HEADROOM

    def test_what_fitted_for_long(self, history: History) -> None:
        history.engine("a", 700, granted=1.0, ready=1.5, ends=9.0)
        history.refused("b", 100, asked=5.0, answered=5.01)
        assert history.worth("b") is Refusal.FALSE

    def test_what_fitted_since_a_moment_ago(self, history: History) -> None:
        """The agent looks twice a second; a hog that left 0.3 s ago may still be in its view."""
        history.engine("a", 700, granted=1.0, ready=1.5, ends=9.0)
        history.foreign[OTHER] = (0.0, 4.7, 250)
        history.refused("b", 100, asked=5.0, answered=5.01)
        assert history.worth("b") is Refusal.STALE

    def test_what_would_have_fitted_after_an_orphan(self, history: History) -> None:
        history.engine("a", 700, granted=1.0, ready=1.5, ends=2.0, orphan_until=9.0)
        history.refused("b", 300, asked=5.0, answered=5.01)
        assert history.worth("b") is Refusal.IMPATIENT

    def test_earlier_waiters_have_their_bytes(self, history: History) -> None:
        history.engine("a", 400, granted=1.0, ready=1.5, ends=9.0)
        history.waiter("b", 500, asked=4.0, ends=8.0)
        history.refused("c", 101, asked=5.0, answered=5.01)
        assert history.worth("c") is Refusal.RIGHT

    def test_later_waiters_have_none(self, history: History) -> None:
        history.engine("a", 400, granted=1.0, ready=1.5, ends=9.0)
        history.waiter("b", 400, asked=4.5, ends=8.0)
        history.refused("c", 100, asked=4.0, answered=5.0)
        assert history.worth("c") is Refusal.FALSE

    def test_later_grants_have_theirs(self, history: History) -> None:
        history.engine("a", 400, granted=1.0, ready=1.5, ends=9.0)
        history.engine("b", 500, granted=4.5, ready=4.7, ends=9.0)
        history.refused("c", 101, asked=4.0, answered=5.0)
        assert history.worth("c") is Refusal.RIGHT


class TestStarts:
    def test_one_after_the_other(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=1.5, ends=5.0)
        history.engine("b", 100, granted=1.51, ready=2.0, ends=5.0)
        assert judge.double_starts(history.lives()) == []

    def test_two_at_once(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=1.5, ends=5.0)
        history.engine("b", 100, granted=1.49, ready=2.0, ends=5.0)
        assert judge.double_starts(history.lives()) == [("a", "b")]

    def test_a_start_ends_with_its_holder(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=NEVER, ends=1.3)
        history.engine("b", 100, granted=1.31, ready=2.0, ends=5.0)
        assert judge.double_starts(history.lives()) == []

    def test_in_the_agents_own_view(self) -> None:
        both = (SeenLease("a", "STARTING", 1, 1), SeenLease("b", "STARTING", 1, 2))
        assert judge.shown_double_starts([Seen(1.0, 1.1, 0, both), Seen(2.0, 2.1, 0, both[:1])]) == 1


class TestLeases:
    def lost(self, history: History, *seen: Seen) -> set[str]:
        return judge.lost(history.lives(), Records(tuple(history.events), tuple(history.facts()), seen, frozenset()))

    def test_a_lease_that_is_shown(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=1.5, ends=5.0)
        pid = history.events[0].pid
        assert self.lost(history, Seen(2.0, 2.01, 0, (SeenLease("a", "ACTIVE", 100, pid),))) == set()

    def test_a_lease_that_is_not(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=1.5, ends=5.0)
        assert self.lost(history, Seen(2.0, 2.01, 0, ())) == {"a"}

    def test_an_orphans_lease_that_is_not(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=1.5, ends=1.8, orphan_until=5.0)
        assert self.lost(history, Seen(2.0, 2.01, 0, ())) == {"a"}

    def test_a_lease_that_was_granted_or_ended_meanwhile(self, history: History) -> None:
        history.engine("a", 100, granted=1.0, ready=1.5, ends=2.05)
        assert self.lost(history, Seen(0.99, 1.3, 0, ()), Seen(2.0, 2.06, 0, ())) == set()

    def test_shown_twice(self) -> None:
        one, again, other = (
            SeenLease("a", "ACTIVE", 1, 1),
            SeenLease("b", "ACTIVE", 1, 1),
            SeenLease("c", "ACTIVE", 1, 3),
        )
        assert judge.duplicated([Seen(1.0, 1.1, 0, (one, other))]) == set()
        assert judge.duplicated([Seen(1.0, 1.1, 0, (one, one, other))]) == {"a"}
        assert judge.duplicated([Seen(1.0, 1.1, 0, (one, again, other))]) == {"a", "b"}


def test_waits_count_from_the_first_question(history: History) -> None:
    history.refused("a", 100, asked=1.0, answered=3.5)
    history.say(2.0, "a", "asked_again")
    history.waiter("b", 100, asked=1.0, ends=2.0)
    assert list(judge.waits(history.lives())) == [2.5]
