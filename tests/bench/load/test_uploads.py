"""Uploads as a benchmark makes them, to real vector stores: what is counted as taken in, and as found."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import openai
import pytest

from bench.load.client import LoadClient
from bench.load.uploads import Uploaded, found, upload
from blend.errors import EngineNotReady
from tests.api.server.vector_stores.conftest import Served, serving

TEXTS = ("cats sleep for most of the day", "dogs run after every ball", "birds fly south in winter")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("store")) as server:
        yield server


def uploaded(stores: Served, texts: tuple[str, ...]) -> tuple[Uploaded, int, int]:
    """Uploads, how many of them are found, and how many are once the first two have changed names."""

    async def run() -> tuple[Uploaded, int, int]:
        async with openai.AsyncOpenAI(base_url=str(stores.client.base_url), api_key="none") as client:
            done = await upload(client, texts, "of a test")
            first, second, *rest = done.file_ids
            wrong = replace(done, file_ids=(second, first, *rest))
            return done, await found(client, done, texts), await found(client, wrong, texts)

    return asyncio.run(run())


def test_files_are_uploaded_and_each_is_found_by_its_own_text(stores):
    done, num_found, num_of_wrong = uploaded(stores, TEXTS)
    assert done.completed == len(done.file_ids) == num_found == 3
    assert num_of_wrong == 1
    there = stores.client.vector_stores.retrieve(done.store_id)
    assert (there.name, there.file_counts.completed) == ("of a test", 3)


def test_what_cannot_be_read_is_not_taken_in(stores):
    done, num_found, _ = uploaded(stores, (*TEXTS[:2], "\0"))
    assert (done.completed, num_found) == (2, 2)


def test_a_server_that_takes_no_uploads_is_said_to(url):
    async def run() -> None:
        async with LoadClient(url, 5.0) as client:
            await upload(client.sdk, TEXTS, "of a test")

    with pytest.raises(EngineNotReady, match="an upload failed"):
        asyncio.run(run())
