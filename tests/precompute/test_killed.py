"""A job that is killed, at whatever step, is continued by the next one."""

import pytest

from tests.support.job_processes import Reports, reports_of, write_documents

pytestmark = pytest.mark.slow

# Documents of a job that had finished before, of the one that is killed, of the one that goes on.
SCENARIOS = {
    "first run": ("", "ab", "ab"),
    "update": ("ac", "ab", "ab"),
    "changed in between": ("", "ab", "ac"),
}
# Renames: journal, the chunks not yet stored (all in two versions, and the prefix with the lead and without;
# or b's in two versions), three data files (chunks, vectors, words), manifest.
NUM_STEPS = {"first run": 1 + 10 + 4, "update": 1 + 4 + 4, "changed in between": 1 + 10 + 4}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """What killed_job.py saw, in all scenarios."""
    root = tmp_path_factory.mktemp("scenarios")
    for scenario, stages in SCENARIOS.items():
        for stage, names in zip(("before", "killed", "finished"), stages, strict=True):
            write_documents(root / scenario / stage, names, num_words=64)  # two chunks each
    return reports_of("killed_job", root, timeout_s=300)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_killed_at_every_step_nothing_is_lost_computed_twice_or_left_over(
    reports: Reports, scenario: str
) -> None:
    mine = [report for report in reports if report["scenario"] == scenario]
    assert len(mine) == 2 * NUM_STEPS[scenario]  # just before each step, and just after it
    assert len({len(report["stored_when_killed"]) for report in mine}) > 2  # some came between two chunks
    final = mine[0]["published_in_the_end"]
    assert len(final) == 5  # two chunks of two documents, and the prefix
    needed = mine[0]["stored_in_the_end"]
    assert len(needed) == 10  # all of these in two versions
    assert set(final) < set(needed)
    for report in mine:
        stored = set(report["stored_when_killed"])
        assert set(report["published_when_killed"] or ()) <= stored
        assert report["computed_after"] == sorted(set(needed) - stored)
        assert report["published_in_the_end"] == final
        assert report["stored_in_the_end"] == needed
        assert not report["journal_left"]
