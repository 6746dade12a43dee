import threading
import time
from contextlib import closing

import pytest

from hf_sae_select.encoding import stages
from hf_sae_select.encoding.stages import ahead


def numbers(end, *, failure=None, made=None, closed=None):
    """Yield numbers, and note which were made; fail after the last one."""
    try:
        for i in range(end):
            if made is not None:
                made.append(i)
            yield i
        if failure is not None:
            raise failure
    finally:
        if closed is not None:
            closed.append(threading.current_thread())


def doubled(items):
    with closing(items):
        for item in items:
            yield 2 * item


@pytest.fixture(autouse=True)
def before(monkeypatch):
    """The threads that run already are not ours: test runners and progress bars have some."""
    monkeypatch.setattr(no_other_thread, "before", set(threading.enumerate()), raising=False)


def no_other_thread():
    return set(threading.enumerate()) <= no_other_thread.before


def test_order_is_kept_through_two_stages():
    with closing(ahead(doubled(ahead(numbers(100), 2)), 3)) as items:
        assert list(items) == list(range(0, 200, 2))
    assert no_other_thread()


@pytest.mark.parametrize("failure", [ValueError("row 7"), KeyboardInterrupt("stop"), SystemExit(3)])
def test_an_error_comes_after_the_items_before_it(failure):
    seen = []
    with (
        pytest.raises(type(failure)) as caught,
        closing(ahead(doubled(ahead(numbers(3, failure=failure), 2)), 3)) as items,
    ):
        for item in items:
            seen.append(item)
    assert seen == [0, 2, 4] and caught.value is failure and no_other_thread()


def test_a_stage_that_fails_ends_the_one_before_it():
    def failing(items):
        with closing(items):
            for item in items:
                if item == 2:
                    raise OSError("full")
                yield item

    closed = []
    with (
        pytest.raises(OSError, match="full"),
        closing(ahead(failing(ahead(numbers(10**9, closed=closed), 2)), 3)) as items,
    ):
        for _ in items:
            pass
    assert no_other_thread() and len(closed) == 1 and closed[0] is not threading.main_thread()


def test_a_reader_that_fails_ends_all_stages():
    closed = []
    with (
        pytest.raises(KeyboardInterrupt),
        closing(ahead(doubled(ahead(numbers(10**9, closed=closed), 2)), 3)) as items,
    ):
        next(items)
        raise KeyboardInterrupt
    assert no_other_thread() and len(closed) == 1


@pytest.mark.parametrize("size", [1, 3])
def test_a_stage_is_not_further_ahead_than_it_may(size):
    made = []
    with closing(ahead(numbers(10**9, made=made), size)) as items:
        for taken in range(1, 6):
            next(items)
            deadline = time.monotonic() + 10
            while len(made) < taken + size and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.01)  # time to be too far
            assert len(made) == taken + size


def test_a_long_wait_ticks(monkeypatch):
    monkeypatch.setattr(stages, "TICK_SECONDS", 0.001)
    ticks, go_on = [], threading.Event()

    def slow():
        go_on.wait(10)
        yield "item"

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            go_on.set()

    with closing(ahead(slow(), 1, tick)) as items:
        assert next(items) == "item"
    assert len(ticks) >= 3


def test_a_stage_that_is_never_read_starts_no_thread():
    closed = []
    with closing(ahead(numbers(3, closed=closed), 1)):
        pass
    assert no_other_thread() and not closed
