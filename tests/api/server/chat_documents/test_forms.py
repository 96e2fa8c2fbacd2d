"""The forms of documents in chat requests."""

import pytest

from api.server.chat_documents.forms import ChatDocument, GivenDocument, given_documents
from api.server.errors import FieldError


def given(*documents, max_documents=10, max_chars=1000):
    forms = [one if isinstance(one, str) else ChatDocument(**one) for one in documents]
    return given_documents(forms, max_documents=max_documents, max_chars=max_chars)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("A city.", GivenDocument("documents.0", "A city.")),
        ({"text": "A city."}, GivenDocument("documents.0", "A city.")),
        ({"title": "Paris", "text": "A city."}, GivenDocument("Paris", "Paris\n\nA city.")),
        ({"id": "7", "text": "A city."}, GivenDocument("7", "A city.")),
        ({"id": "7", "data": "A city."}, GivenDocument("7", "A city.")),
        (
            {"id": "7", "data": {"title": "Paris", "text": "A city."}},
            GivenDocument("Paris", "Paris\n\nA city."),
        ),
        ({"data": {"snippet": "A city.", "url": "x"}}, GivenDocument("documents.0", "A city.")),
        ({"text": " a\r\nb\0 ", "other": 1}, GivenDocument("documents.0", "a\nb")),
    ],
)
def test_each_form_gives_a_text_and_what_to_call_it(document, expected):
    assert given(document) == [expected]


def test_their_order_is_kept():
    assert [one.text for one in given("b", {"text": "a"}, {"data": "c"})] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "document",
    [
        "",
        " \n",
        {},
        {"title": "Paris"},
        {"data": {}},
        {"data": {"text": 1}},
        {"data": {"text": "x", "title": 1}},
    ],
)
def test_a_document_without_text_is_named(document):
    with pytest.raises(FieldError, match="documents.1") as caught:
        given("fine", document)
    assert caught.value.param == "documents.1"


def test_too_many_and_too_much_are_refused():
    with pytest.raises(FieldError, match="got 2, expected at most 1"):
        given("a", "b", max_documents=1)
    with pytest.raises(FieldError, match="got 6 characters, expected at most 5"):
        given("abc", "def", max_chars=5)
