"""Text that stands in a prompt twice takes rows of a second reading, and no other text does."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from blend.chunk import make_record
from blend.fidelity.echo import REPEAT_TOKENS, repeated, with_echo
from blend.hf import compute_chunks
from blend.hf.decoder import kv_layout
from blend.rope import realign, rotation
from tests.conftest import RandomIds
from tests.reference.prefill import full_prefill
from tests.tolerances import ROTATION, assert_close


@given(st.lists(st.integers(0, 2), max_size=20), st.integers(1, 4))
def test_what_stood_before_is_found(ids: list[int], num: int) -> None:
    runs = [tuple(ids[stop - num : stop]) if stop >= num else None for stop in range(1, len(ids) + 1)]
    expected = [run is not None and run in runs[:place] for place, run in enumerate(runs)]
    assert repeated(ids, num).tolist() == expected


@torch.no_grad()
def test_rows_are_of_a_second_reading_where_the_text_stood_before(
    llama: PreTrainedModel, random_ids: RandomIds
) -> None:
    prefix, shared = random_ids(5), random_ids(12)
    one, other = random_ids(9) + shared, shared + random_ids(8)
    records = [make_record("tiny", prefix, ids) for ids in (one, other)]
    layout = kv_layout(llama, one, 100)
    chunks = compute_chunks(llama, records)
    echoed = with_echo(
        chunks,
        (5, 5 + len(one) + 1),
        (*prefix, *one, 3, *other, 4),
        lambda wanted: compute_chunks(llama, wanted),
        layout.table,
        layout.interleaved,
    )
    assert [chunk.record for chunk in echoed] == records
    assert echoed[0] is chunks[0]
    again = torch.zeros(len(other), dtype=torch.bool)
    again[REPEAT_TOKENS - 1 : len(shared)] = True
    keys, values = (rows[:, 5 + len(other) :] for rows in full_prefill(llama, prefix + other + other))
    keys = realign(keys, rotation(layout.table, -len(other)), layout.interleaved)
    assert_close(echoed[1].values[:, again], values[:, again])
    assert_close(echoed[1].keys[:, again], keys[:, again], ROTATION)
    assert torch.equal(echoed[1].values[:, ~again], chunks[1].values[:, ~again])
    assert torch.equal(echoed[1].keys[:, ~again], chunks[1].keys[:, ~again])
    assert not torch.allclose(values[:, again], chunks[1].values[:, again], atol=1e-3), (
        "it makes a difference"
    )
