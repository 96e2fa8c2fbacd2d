"""Texts of chunks of chat requests: the least recently used one goes first, also after a restart."""

import os

from api.server.chat_documents.learned import LearnedTexts


def test_texts_are_there_after_a_restart_in_the_order_of_their_use(tmp_path):
    learned = LearnedTexts(tmp_path / "mark", 3)
    for second, text in enumerate(["one", "two", "drei\n\nünï", "one"]):
        assert learned.use([text]) == []
        for path in (tmp_path / "mark").glob("*.txt"):
            if path.read_text() == text:
                os.utime(path, (second, second))
    again = LearnedTexts(tmp_path / "mark", 3)
    assert again.texts == ("two", "drei\n\nünï", "one")
    assert again.use(["four"]) == ["two"]
    assert LearnedTexts(tmp_path / "mark", 3).texts[:2] == ("drei\n\nünï", "one")


def test_more_than_are_kept_come_at_once(tmp_path):
    learned = LearnedTexts(tmp_path, 2)
    assert learned.use(["a", "b", "c"]) == ["a"]
    assert learned.texts == ("b", "c")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_is_no_text_is_passed_over(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe\xff")
    assert LearnedTexts(tmp_path, 2).texts == ()
