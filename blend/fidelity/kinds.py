"""Which versions of its chunks a prompt is blended from, for each way to compute chunk KV."""

from blend.chunk import ChunkRecord, make_record
from blend.errors import RequestError
from blend.fidelity.method import WRONG
from blend.fidelity.methods import ALONE, LED, PREFIXED
from blend.fidelity.question import Ids, LabPrompt


def records_of(prompt: LabPrompt, kind: str, fingerprint: str, lead: Ids) -> list[ChunkRecord]:
    """Records of a prompt's chunks, computed in one way.

    Args:
        fingerprint: of the model.
        lead: see `blend.text.lead.lead_ids`.

    Raises:
        RequestError: chunks are not computed in this way.
    """
    prefix = prompt.prefix_ids
    behind = {ALONE: (), PREFIXED: prefix, LED: prefix + lead}
    if kind not in behind:
        raise RequestError(f"got chunks {kind!r}, expected {ALONE}, {PREFIXED}, {LED} or {WRONG}")
    # Right behind the prefix a chunk's plain version is exact.
    plain = prompt.chunks[:1] if kind == LED and not prompt.before_ids else ()
    first = [make_record(fingerprint, prefix, ids) for ids in plain]
    return [*first, *(make_record(fingerprint, behind[kind], ids) for ids in prompt.chunks)]
