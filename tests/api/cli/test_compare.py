"""The two arms of a comparison are measured alike."""

from api.cli.compare import REPETITIONS, Reply, compare


class Recorder:
    """An asker with given times to first token, that remembers how it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bool, str | None]] = []
        self.times = {True: iter([90.0, 10.0, 12.0]), False: iter([40.0, 48.0, 400.0])}

    def ask(self, *, blend, cache_salt, show):
        self.asked.append((blend, cache_salt))
        return Reply(f"answer {len(self.asked)}", next(self.times[blend]), {"enabled": blend})


def test_arms_are_interleaved_and_share_nothing():
    asker = Recorder()
    compare(asker)
    assert [blend for blend, _ in asker.asked] == [True, False] * REPETITIONS
    salts = [salt for _, salt in asker.asked]
    assert None not in salts
    assert len(set(salts)) == len(salts)


def test_medians_are_compared_so_one_slow_repetition_changes_nothing():
    comparison = compare(Recorder())
    assert (comparison.blended.ttft_ms, comparison.full.ttft_ms) == (12.0, 48.0)
    assert comparison.speedup == 4.0
    assert comparison.full.blend == {"enabled": False}
