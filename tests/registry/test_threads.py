import threading
import time

import pytest

from registry.threads import Pipeline, read_ahead


def test_items_go_through_all_steps_in_order():
    seen = []
    pipeline = Pipeline([lambda item: item + 1, lambda item: item * 10, seen.append], 3, "test")
    for item in range(20):
        pipeline.put(item)
    pipeline.wait()
    assert seen == [10 * (item + 1) for item in range(20)]
    before = threading.active_count()
    pipeline.close()
    assert threading.active_count() == before - 3


def test_no_more_items_are_under_way_than_asked_for():
    under_way, most = 0, 0
    go = threading.Semaphore(0)

    def leave(_item):
        nonlocal under_way
        go.acquire()
        under_way -= 1

    pipeline = Pipeline([lambda item: item, leave], 2, "test")
    threading.Timer(0.05, go.release, [8]).start()
    for item in range(8):
        pipeline.put(item)
        under_way += 1
        most = max(most, under_way)
    pipeline.wait()
    assert most == 2
    pipeline.close()


def test_the_first_error_reaches_who_hands_over_the_next_item():
    seen = []

    def check(item):
        if item in (2, 4):
            raise OSError(f"disk full at {item}")
        return item

    pipeline = Pipeline([check, seen.append], 3, "test")
    with pytest.raises(OSError, match="at 2"):
        hand_over(pipeline, range(100))
    with pytest.raises(OSError, match="at 4"):  # which may have been taken in before
        hand_over(pipeline, [4])
    pipeline.wait()
    assert seen[:3] == [0, 1, 3]
    hand_over(pipeline, [5])
    assert seen[-1] == 5
    pipeline.close()


def hand_over(pipeline, items):
    for item in items:
        pipeline.put(item)
    pipeline.wait()


def test_an_interrupted_wait_leaves_items_under_way():
    seen, begun = [], threading.Event()

    def slow(item):
        begun.set()
        time.sleep(0.1)
        seen.append(item)

    pipeline = Pipeline([slow], 1, "test")
    pipeline.put(1)
    begun.wait()
    pipeline.close()  # as at the end of a run that was interrupted
    assert seen == [1]


def numbers(unwanted, ends, stop=1000):
    try:
        for number in range(stop):
            if unwanted.is_set():
                ends.append("unwanted")
                return
            yield number
    finally:
        ends.append(threading.current_thread().name)


def test_items_are_made_ahead_in_order():
    made = []

    def note(unwanted):
        for number in range(10):
            made.append(number)
            yield number

    items = read_ahead(note, 3)
    assert made == []
    assert next(items) == 0
    deadline = time.monotonic() + 5
    while made != [0, 1, 2, 3] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert made == [0, 1, 2, 3]
    assert list(items) == list(range(1, 10))


def test_who_stops_asking_ends_the_thread():
    ends, before = [], threading.active_count()
    items = read_ahead(lambda unwanted: numbers(unwanted, ends), 2)
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert ends
    assert threading.active_count() == before


def test_what_making_an_item_raises_is_raised_where_it_is_due():
    def fail(unwanted):
        yield 1
        raise ValueError("damaged")

    items = read_ahead(fail, 5)
    assert next(items) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(items)
