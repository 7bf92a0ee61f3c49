"""A job that hangs is noticed, one that is slow is not."""

from attnsearch.search.workers.pace import FLOOR_SECONDS, TIMES_LONGEST, Pace


class Time:
    """A clock that is set by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def watched(pace: Pace, clock: Time, seconds: float) -> list[str]:
    """What is late at the end of so many seconds in which the pace is looked at often."""
    late: list[str] = []
    for _ in range(int(seconds)):
        clock.now += 1
        late = pace.late()
    return late


def test_a_step_far_longer_than_any_before_is_late() -> None:
    clock = Time()
    pace = Pace(clock=clock)
    pace.begun("quick")
    pace.begun("hung")
    assert not watched(pace, clock, 60)
    pace.stepped("quick")
    limit = 60 * TIMES_LONGEST
    assert pace.limit == limit
    assert not watched(pace, clock, limit - 60)
    pace.stepped("quick")
    pace.over("quick")
    pace.longest = 60
    assert watched(pace, clock, 1) == ["hung"]
    pace.over("hung")
    assert not pace.late()


def test_nothing_is_late_while_nothing_is_known_and_short_epochs_have_a_floor() -> None:
    clock = Time()
    pace = Pace(clock=clock)
    pace.begun("first")
    assert not pace.slow()
    assert not watched(pace, clock, 10_000)
    assert pace.slow() == ["first"], "a person is told of it"
    pace.stepped("first")
    assert not pace.slow()
    pace = Pace(longest=0.5, clock=clock)
    pace.begun("again")
    assert pace.limit == FLOOR_SECONDS
    assert not watched(pace, clock, FLOOR_SECONDS)
    assert watched(pace, clock, 2) == ["again"]


def test_a_timeout_takes_the_place_of_what_is_learnt() -> None:
    clock = Time()
    pace = Pace(longest=100.0, clock=clock, timeout=30.0)
    pace.begun("a")  # the first epoch of all
    assert not watched(pace, clock, 30) and not pace.slow()
    assert watched(pace, clock, 1) == ["a"]
    assert pace.why() == "no epoch in 30 s (resources.timeout): it hangs"
    pace.stepped("a")
    assert not watched(pace, clock, 30)
    pace = Pace(clock=clock, timeout=10_000.0)  # longer than what is told as slow
    pace.begun("b")
    assert not watched(pace, clock, 9_999) and not pace.slow()


def test_what_a_suspended_machine_slept_does_not_count() -> None:
    clock = Time()
    pace = Pace(longest=1, clock=clock)
    pace.begun("a")
    clock.now += 8 * 3600
    assert not pace.late()
    clock.now += 8 * 3600
    assert not pace.late()
