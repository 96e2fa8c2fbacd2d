"""A meter gives each thing that it counted once, from any thread, in a form that can be sent and added up."""

import json
from concurrent.futures import ThreadPoolExecutor

from blend.report.metrics import Kind, Meter, Metric, Readings

HITS = Metric("hits", Kind.COUNTER, "Hits.", ("tier",))
HELD = Metric("held", Kind.GAUGE, "Held.", ("tier",))
TOOK = Metric("took", Kind.HISTOGRAM, "Took.")


def test_what_is_taken_is_given_once_and_the_total_stays() -> None:
    meter = Meter()
    assert not meter.take()
    meter.add(HITS, 2, "disk")
    meter.add(HITS, 1, "memory")
    meter.observe(TOOK, 0.5)
    meter.observe(TOOK, 0.25)
    first = meter.take()
    assert first.counts == {("hits", ("disk",)): 2, ("hits", ("memory",)): 1}
    assert first.observed == {("took", ()): (0.5, 0.25)}
    assert not meter.take()
    meter.add(HITS, 3, "disk")
    assert meter.take().counts == {("hits", ("disk",)): 3}
    meter.add(HITS, 0, "s3")
    assert meter.take().counts == {("hits", ("s3",)): 0}
    assert not meter.take()
    assert meter.total(HITS, "disk") == 5 and meter.total(HITS, "redis") == 0


def test_a_gauge_says_how_things_stand_in_its_process() -> None:
    one, other = Meter("rank 0"), Meter("rank 1")
    one.set(HELD, 7, "memory")
    one.set(HELD, 8, "memory")
    other.set(HELD, 3, "memory")
    both = one.take().merged(other.take())
    assert both.levels == {("held", ("memory", "rank 0")): 8, ("held", ("memory", "rank 1")): 3}
    assert not one.take()


def test_threads_that_count_while_another_takes_lose_nothing() -> None:
    meter, taken = Meter(), Readings()

    def work(_: int) -> None:
        for _ in range(2000):
            meter.add(HITS, 1, "disk")
            meter.observe(TOOK, 1.0)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(work, number) for number in range(4)]
        while not all(one.done() for one in running):
            taken = taken.merged(meter.take())
    for one in running:
        one.result()
    taken = taken.merged(meter.take())
    assert taken.counts == {("hits", ("disk",)): 8000}
    assert len(taken.observed["took", ()]) == 8000


def test_readings_add_up_and_come_back_from_json() -> None:
    disk, redis = ("hits", ("disk",)), ("hits", ("redis",))
    one = Readings({disk: 1}, {("held", ("a",)): 1}, {("took", ()): (1.0,)})
    other = Readings({disk: 2, redis: 5}, {("held", ("a",)): 2}, {("took", ()): (3.0, 4.0)})
    both = one.merged(other)
    assert both == Readings({disk: 3, redis: 5}, {("held", ("a",)): 2}, {("took", ()): (1.0, 3.0, 4.0)})
    assert Readings.from_json(json.loads(json.dumps(both.to_json()))) == both
    assert Readings.from_json({}) == Readings() and not Readings()
    assert one.counts == {disk: 1}  # merging changes neither
