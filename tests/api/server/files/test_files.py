"""`/v1/files` through OpenAI's own client, over a socket."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from api.server.files.file_store import ABANDONED_S, FileRecord, FileStore
from api.server.files.routes import files_router
from api.server.settings import ServeConfig
from tests.support.http_app import application, client_of

MAX_BYTES = 200_000
FORGOTTEN: list[str] = []


async def forget(record: FileRecord) -> None:
    FORGOTTEN.append(record.id)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[openai.OpenAI]:
    app = application()
    app.include_router(files_router(FileStore(folder, ServeConfig(max_document_bytes=MAX_BYTES)), forget))
    with client_of(app) as client:
        yield client


def upload(client: openai.OpenAI, name: str = "notes.md", data: bytes = b"# Notes", **said: Any) -> Any:
    return client.files.create(file=(name, data), **{"purpose": "assistants", **said})


def test_a_file_is_kept_as_it_came_and_deleted(client, folder):
    data = os.urandom(100_000)
    made = upload(client, "Über uns.md", data, purpose="user_data")
    assert (made.filename, made.bytes, made.purpose, made.status) == (
        "Über uns.md",
        100_000,
        "user_data",
        "processed",
    )
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).content == data
    assert {path.name for path in (folder / "files").iterdir()} >= {f"{made.id}.json", f"{made.id}.data"}
    assert client.files.wait_for_processing(made.id) == made
    assert client.files.delete(made.id).deleted
    assert FORGOTTEN[-1] == made.id
    assert not list((folder / "files").glob(f"{made.id}*"))
    for ask in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="expected the id of an uploaded file"):
            ask(made.id)


def test_files_are_listed_in_pages_in_either_order_and_by_purpose(client):
    made = [upload(client, f"{number}.txt", b"x", purpose="vision").id for number in range(5)]
    listed = client.files.list(purpose="vision", order="asc", limit=2)
    assert [file.id for file in listed.data] == made[:2] and listed.has_more
    assert [file.id for file in listed] == made, "the client turns the pages itself"
    assert [file.id for file in client.files.list(purpose="vision")] == made[::-1]
    assert client.files.list(purpose="batch").data == []
    for wrong in ({"limit": 0}, {"limit": 10_001}, {"order": "up"}, {"after": "file-none"}):
        with pytest.raises(openai.BadRequestError):
            client.files.list(**wrong)


def test_a_file_expires(client, folder):
    with pytest.raises(openai.BadRequestError, match="greater than or equal to 3600"):
        upload(client, expires_after={"anchor": "created_at", "seconds": 60})
    made = upload(client, expires_after={"anchor": "created_at", "seconds": 3600})
    assert made.expires_at == made.created_at + 3600
    path = folder / "files" / f"{made.id}.json"
    over = FileRecord.model_validate_json(path.read_bytes()).model_copy(update={"expires_s": 1.0})
    path.with_suffix(".tmp").write_text(over.model_dump_json())
    os.replace(path.with_suffix(".tmp"), path)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made.id)
    assert not path.exists()


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/passwd", "a/b.md", "..", ".", "a\\b.md", "x" * 256])
def test_a_name_that_is_a_path_or_no_name_is_refused(client, name):
    with pytest.raises(openai.BadRequestError, match="file: got the name"):
        upload(client, name)


@pytest.mark.parametrize("num_bytes", [MAX_BYTES + 1, 2 * MAX_BYTES, 50 * MAX_BYTES])
def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(client, folder, num_bytes):
    before = set((folder / "files").iterdir())
    with pytest.raises(openai.APIStatusError, match=f"more than {MAX_BYTES} bytes") as refused:
        upload(client, "large.txt", bytes(num_bytes))
    assert refused.value.status_code == 413
    assert set((folder / "files").iterdir()) == before
    assert upload(client, "fits.txt", bytes(MAX_BYTES)).bytes == MAX_BYTES


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"file": "x", "purpose": "assistants"}},
        {"data": {"purpose": "assistants"}, "files": {"other": ("a.txt", b"x")}},
        {"data": {"purpose": "assistants"}, "files": {"file": ("", b"x")}},
        {"files": {"file": ("a.txt", b"x")}},
        {"data": {"purpose": "no"}, "files": {"file": ("a.txt", b"x")}},
        {"data": {"purpose": "vision", "more": "1"}, "files": {"file": ("a.txt", b"x")}},
        {"data": {"purpose": "vision", "expires_after[seconds]": "3600"}, "files": {"file": ("a", b"x")}},
        {"data": {"purpose": "vision"}, "files": [("file", ("a", b"x")), ("file", ("b", b"x"))]},
        {"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"content": b"", "headers": {"Content-Type": "multipart/form-data"}},
        {"content": b"--x\r\n\xff\xfe", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
        {"data": {"purpose": "x" * 10_000}, "files": {"file": ("a.txt", b"x")}},
    ],
)
def test_a_form_that_is_none_is_refused_in_openais_shape(client, body):
    answer = httpx.post(f"{client.base_url}files", **body)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_control_character_in_a_name_is_refused(client):
    head = b'--x\r\nContent-Disposition: form-data; name="%s"'
    parts = [head % b"purpose" + b"\r\n\r\nvision", head % b'file"; filename="a\x07.md' + b"\r\n\r\ntext"]
    answer = httpx.post(
        f"{client.base_url}files",
        content=b"\r\n".join([*parts, b"--x--\r\n"]),
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )
    assert answer.status_code == 400, answer.text
    assert "control characters" in answer.json()["error"]["message"]


def test_ids_that_are_paths_lead_nowhere(client):
    for key in ("..%2f..%2fetc%2fpasswd", "file-%00", "%2e%2e", "file-" + "a" * 24, "%ff", "x" * 5000):
        for tail in ("", "/content"):
            assert httpx.get(f"{client.base_url}files/{key}{tail}").status_code == 404, key


def test_a_flipped_bit_is_seen(client, folder):
    made = upload(client)
    path = folder / "files" / f"{made.id}.data"
    path.write_bytes(b"# notes")
    with pytest.raises(openai.InternalServerError, match="is damaged: delete it"):
        client.files.content(made.id)


def test_a_store_that_is_full_takes_no_more_until_something_goes(tmp_path):
    files = FileStore(tmp_path, ServeConfig(max_document_bytes=100, max_files_bytes=150))
    app = application()
    app.include_router(files_router(files, forget))
    with client_of(app) as client:
        first = upload(client, data=bytes(100))
        with pytest.raises(openai.APIStatusError, match="delete some first") as refused:
            upload(client, data=bytes(100))
        assert refused.value.status_code == 413
        client.files.delete(first.id)
        upload(client, data=bytes(100))


def test_another_server_on_the_same_store_sees_the_same_files(tmp_path):
    one, other = FileStore(tmp_path), FileStore(tmp_path)
    source = tmp_path / "source"
    source.write_bytes(b"text")
    with source.open("rb") as file:
        record = one.add(file, "a.txt", "assistants", "")
    assert other.read(other.get(record.id, "")) == b"text"
    other.remove(record)
    assert one.all("") == []


def test_a_namespace_sees_its_own_files_alone(tmp_path):
    files = FileStore(tmp_path)
    app = application()
    app.include_router(files_router(files, forget))
    with client_of(app) as client:
        made = client.with_options(default_headers={"x-who": "ann"}).files.create(
            file=("a.txt", b"x"), purpose="assistants"
        )
        other = client.with_options(default_headers={"x-who": "bob"})
        assert other.files.list().data == []
        with pytest.raises(openai.NotFoundError):
            other.files.delete(made.id)


def test_what_a_killed_upload_left_goes_after_a_day(tmp_path):
    (tmp_path / "files").mkdir()
    old, new = (tmp_path / "files" / f".incoming-{name}.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, new.stat().st_mtime - ABANDONED_S - 1))
    FileStore(tmp_path)
    assert new.exists() and not old.exists()


def test_a_damaged_record_is_left_out_of_the_list(tmp_path, caplog):
    files = FileStore(tmp_path)
    source = tmp_path / "source"
    source.write_bytes(b"text")
    with source.open("rb") as file:
        record = files.add(file, "a.txt", "assistants", "")
    (tmp_path / "files" / f"{record.id}.json").write_text("{")
    assert files.all("") == []
    assert "damaged" in caplog.text
