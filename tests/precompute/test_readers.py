"""Readers: real bytes of each format, and bytes that are none."""

import os
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from precompute.readers import Binary, Document, SourceFile, Unreadable, list_files, load_file, parse


def read(folder: Path, path: str, data: bytes) -> Document | Unreadable | Binary:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(data)
    file = load_file(folder, path)
    return parse(file) if isinstance(file, SourceFile) else file


def make_pdf(*pages: str) -> bytes:
    """A PDF of one line of text a page."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, text in enumerate(pages):
        content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * i} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    data, offsets = "%PDF-1.4\n", []
    for i, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{i} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    trailer = f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF"
    return f"{data}xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()


def encrypted(data: bytes, password: str) -> bytes:
    writer, out = PdfWriter(clone_from=PdfReader(BytesIO(data))), BytesIO()
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_text_in_every_encoding_that_says_what_it_is(tmp_path: Path, encoding: str) -> None:
    document = read(tmp_path, "a.txt", "naïve\r\ncafé\rend".encode(encoding))
    assert isinstance(document, Document)
    assert document.text == "naïve\ncafé\nend"


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    document = read(tmp_path, "deep/er/a.txt", b"abc")
    assert isinstance(document, Document)
    assert document.path == "deep/er/a.txt"
    assert document.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("path", "text", "title"),
    [
        ("a.md", "intro\n\n# The *title* #\n\n# second", "The *title*"),
        ("a.md", "The title\r\n=========\r\ntext", "The title"),
        ("notes.md", "no heading", "notes.md"),
        ("x/code.py", "# not a title\nprint()", "code.py"),
    ],
)
def test_titles(tmp_path: Path, path: str, text: str, title: str) -> None:
    document = read(tmp_path, path, text.encode())
    assert isinstance(document, Document)
    assert document.title == title


HTML = """<!doctype html><html><head><title> A
 page </title><style>p {}</style><script>alert(1)</script></head><body><nav><a href=/>Home</a></nav>
<h1>Head</h1><p>One <b>bold</b>
   word.<!-- hidden --><br>Next line.</p>
<ul><li>first<li><p>second</p></li><li></li></ul><p>after
<pre>def f():
    return 1
</pre>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table></body></html>"""


def test_html_reads_as_the_page_does(tmp_path: Path) -> None:
    document = read(tmp_path, "a.html", HTML.encode())
    assert isinstance(document, Document)
    assert document.title == "A page"
    assert document.text == (
        "Head\n\nOne bold word.\nNext line.\n\n- first\n- second\n\nafter\n\n"
        "def f():\n    return 1\n\na | b\n1 | 2"
    )


def test_html_in_the_encoding_it_declares(tmp_path: Path) -> None:
    page = '<meta charset="iso-8859-2"><p>Łódź</p>'
    document = read(tmp_path, "a.htm", page.encode("iso-8859-2"))
    assert isinstance(document, Document)
    assert document.text == "Łódź"


@pytest.mark.parametrize("page", ['<?xml version="1.0"?><html xmlns="x"><p>text</p></html>', "text"])
def test_xhtml_and_a_bare_word_are_read_without_a_warning(tmp_path: Path, page: str) -> None:
    document = read(tmp_path, "a.xhtml", page.encode())
    assert isinstance(document, Document)
    assert document.text == "text"


def test_pdf_pages_are_paragraphs(tmp_path: Path) -> None:
    document = read(tmp_path, "a.pdf", make_pdf("Page one.", "Page two."))
    assert isinstance(document, Document)
    assert document.text == "Page one.\n\nPage two."


def test_a_pdf_that_only_forbids_changes_is_read(tmp_path: Path) -> None:
    document = read(tmp_path, "a.pdf", encrypted(make_pdf("Readable."), password=""))
    assert isinstance(document, Document)
    assert document.text == "Readable."


@pytest.mark.parametrize(
    ("path", "data", "reason"),
    [
        ("a.txt", b"", "empty"),
        ("a.txt", b" \n\t", "empty"),
        ("a.py", b"", "empty"),
        ("a.html", b"<html><body></body></html>", "empty"),
        ("a.txt", b"caf\xe9", "not text"),
        ("a.py", b"\x7fELF\0\0", "not text"),
        ("a.md", b"\xff\xfea", "not text"),
        ("a.pdf", b"", "damaged PDF"),
        ("a.pdf", b"%PDF-1.4 and then nothing", "damaged PDF"),
        ("a.pdf", make_pdf(""), "no text in it"),
        ("a.pdf", encrypted(make_pdf("Secret."), password="x"), "encrypted"),
        ("a.pdf", make_pdf("Page one.")[:200], "PDF|no text"),
    ],
)
def test_unreadable_files_are_named_with_the_reason(
    tmp_path: Path, path: str, data: bytes, reason: str
) -> None:
    found = read(tmp_path, path, data)
    assert isinstance(found, Unreadable)
    assert found.path == path
    assert any(part in found.reason for part in reason.split("|"))


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\0\0", b"caf\xe9", bytes(range(256)) * 100])
def test_binary_files_of_unknown_kinds_are_passed_over(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, "picture.xyz", data) == Binary("picture.xyz")


def test_text_of_an_unknown_kind_is_text(tmp_path: Path) -> None:
    document = read(tmp_path, "LICENSE", b"Do what you like.")
    assert isinstance(document, Document)
    assert document.title == "LICENSE"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".txt", ".html", ".pdf", ".md", ".bin", ""]))
def test_no_bytes_raise(data: bytes, suffix: str) -> None:
    for content in (data, b"%PDF-1.7\n" + data, b"<html>" + data):
        found = parse(SourceFile(f"a{suffix}", content, ""))
        assert isinstance(found, Document | Unreadable | Binary)
        if isinstance(found, Document):
            assert found.text.strip()
            found.text.encode()


def test_files_are_listed_in_one_order_without_hidden_ones(tmp_path: Path) -> None:
    for path in ["b.txt", "a/z.txt", "a/b/c.txt", ".git/config", "a/.hidden", "B.txt"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    assert list(list_files(tmp_path)) == ["B.txt", "a/b/c.txt", "a/z.txt", "b.txt"]


@pytest.mark.timeout(60)  # a pipe that nobody writes to would be read for ever
def test_links_pipes_and_strange_names_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    strange = os.fsdecode(b"na\xefve.txt")
    (tmp_path / strange).write_text("x")
    found = {path: load_file(tmp_path, path) for path in list_files(tmp_path) if isinstance(path, str)}
    assert found == {
        "broken.txt": Unreadable("broken.txt", "No such file or directory"),
        "pipe.txt": Binary("pipe.txt"),
        strange: Unreadable("na\\xefve.txt", "its name is not UTF-8"),
    }
