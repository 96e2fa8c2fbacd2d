"""The forms in which clients send documents with a chat request."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from api.server.errors import FieldError
from precompute.readers import tidy

TEXT_KEYS = ("text", "snippet")


class ChatDocument(BaseModel):
    """A document in the form of chat templates, or in Cohere's form.

    Attributes:
        text, title: of the document; the title precedes the text in the prompt.
        id: the client's name of the document.
        data: instead of text and title: the text, or an object with `text` (or `snippet`) and `title`.
    """

    model_config = ConfigDict(extra="allow")

    text: str | None = None
    title: str | None = None
    id: str | None = None
    data: str | dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GivenDocument:
    """A document of a request.

    Attributes:
        source: its name in answers: its title, its id, or its place in the request.
        text: title and text, before they are split into chunks.
    """

    source: str
    text: str


def given_documents(
    documents: Sequence[str | ChatDocument], *, max_documents: int, max_chars: int
) -> list[GivenDocument]:
    """Documents in any form, in their order.

    >>> given_documents([ChatDocument(title="Paris", text="A city.")], max_documents=1, max_chars=100)
    [GivenDocument(source='Paris', text='Paris\\n\\nA city.')]
    >>> given_documents(["A city."], max_documents=1, max_chars=100)
    [GivenDocument(source='documents.0', text='A city.')]

    Raises:
        FieldError: a document has no text, or the documents are too many or too long.
    """
    if len(documents) > max_documents:
        raise FieldError(
            f"documents: got {len(documents)}, expected at most {max_documents}: put them into a collection",
            "documents",
        )
    given = [_given(document, f"documents.{number}") for number, document in enumerate(documents)]
    num_chars = sum(len(document.text) for document in given)
    if num_chars > max_chars:
        raise FieldError(
            f"documents: got {num_chars:,} characters, expected at most {max_chars:,} in all: put them into "
            "a collection",
            "documents",
        )
    return given


def _given(document: str | ChatDocument, field: str) -> GivenDocument:
    if isinstance(document, str):
        title, text, name = None, document, None
    else:
        title, text = _title_and_text(document, field)
        name = document.id
    text = tidy(text).strip()
    if not text:
        raise FieldError(f"{field}: got an empty document, expected text in it", field)
    title = tidy(title).strip() if title else None
    return GivenDocument(title or name or field, f"{title}\n\n{text}" if title else text)


def _title_and_text(document: ChatDocument, field: str) -> tuple[str | None, str]:
    if document.text is not None:
        return document.title, document.text
    if isinstance(document.data, str):
        return document.title, document.data
    if document.data is not None:
        texts = [document.data[key] for key in TEXT_KEYS if key in document.data]
        title = document.data.get("title")
        if texts and isinstance(texts[0], str) and isinstance(title, str | None):
            return title or document.title, texts[0]
    raise FieldError(
        f"{field}: got no text, expected a string, an object with `text` (and `title`), or one with `data`, "
        "which is a string or such an object",
        field,
    )
