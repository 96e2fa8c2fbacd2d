"""The chunk records of a prompt, for each way to compute chunk KV."""

import sys

from bench.fidelity.methods import ALONE, ECHOED, LED, PREFIXED, WRONG
from bench.fidelity.question import Ids, LabPrompt
from blend.chunks.chunk import ChunkRecord, make_record
from blend.chunks.versions import Prefixes
from blend.errors import RequestError


def records_of(prompt: LabPrompt, kind: str, fingerprint: str, lead: Ids) -> list[ChunkRecord]:
    """Records of a prompt's chunks, computed in one way.

    Args:
        fingerprint: of the model.
        lead: see `blend.text.lead.lead_ids`.

    Raises:
        RequestError: chunks are not computed in this way.
    """
    if kind == ALONE:
        return [make_record(fingerprint, (), ids) for ids in prompt.chunks]
    if kind not in (PREFIXED, LED, ECHOED):
        raise RequestError(f"got chunks {kind!r}, expected {ALONE}, {PREFIXED}, {LED}, {ECHOED} or {WRONG}")
    prefixes = prefixes_of(prompt, fingerprint, lead)
    versions = [prefixes.versions(ids) for ids in prompt.chunks]
    if kind == PREFIXED:
        return [one.plain for one in versions]
    # Right behind the prefix a chunk's plain version is exact.
    first = versions[:1] if not prompt.before_ids else []
    records = [*(one.plain for one in first), *(one.led or one.plain for one in versions)]
    if kind == ECHOED:
        records += [one.echo for one in versions if one.echo is not None]
    return records


def prefixes_of(prompt: LabPrompt, fingerprint: str, lead: Ids) -> Prefixes:
    """The prefixes of a prompt's chunks. The model is long enough for everything that is measured."""
    return Prefixes(fingerprint, prompt.prefix_ids, lead, sys.maxsize)
