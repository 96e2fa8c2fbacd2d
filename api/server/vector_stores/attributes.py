"""Attributes of files as metadata of documents, where two names are taken."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from precompute.metadata import RESERVED
from retriever.filters import Comparison, Compound, Filter, parse_filter


def metadata_of(attributes: Mapping[str, Any]) -> dict[str, str | float | bool]:
    """What filters will know of a document.

    >>> metadata_of({"lang": "en", "title": "Mr"})
    {'lang': 'en', 'attributes.title': 'Mr'}
    """
    return {_kept(key): value for key, value in attributes.items()}


def attribute_filter(said: Mapping[str, Any], option: str) -> Filter:
    """A filter of attributes.

    >>> attribute_filter({"type": "eq", "key": "title", "value": "Mr"}, "filters").key
    'attributes.title'

    Raises:
        QueryError: it is none.
    """
    return _renamed(parse_filter(said, option))


def _renamed(asked: Filter) -> Filter:
    if isinstance(asked, Comparison):
        return replace(asked, key=_kept(asked.key))
    return Compound(asked.type, tuple(map(_renamed, asked.filters)))


def _kept(key: str) -> str:
    return f"attributes.{key}" if key in RESERVED else key
