"""The page's files as they are served: what a browser is told of them, and what it is refused."""

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.server.page import page_router
from blend.select import names

FILES = sorted(path.name for path in (Path(__file__).parents[3] / "demo" / "page").iterdir())


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI(root_path="/below")
    app.include_router(page_router())
    return TestClient(app)


def test_the_page_is_there_under_any_root_path(client):
    answer = client.get("/demo", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "demo/")
    assert "<title>kvblend</title>" in client.get("/demo/").text


@pytest.mark.parametrize("name", ["", *FILES])
def test_no_file_may_bring_in_anything_from_elsewhere(client, name):
    answer = client.get(f"/demo/{name}")
    assert answer.status_code == 200
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert {value for key, value in policy.items() if key.endswith("-src")} <= {"'none'", "'self'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    elsewhere = re.sub(r"http://www\.w3\.org/2000/svg", "", answer.text)
    assert "//" not in re.sub(r"^\s*//.*$|\s// .*$", "", elsewhere, flags=re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_texts_become_text_nodes_and_nothing_else(client, name):
    script = client.get(f"/demo/{name}").text
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", script
    )


def test_what_modules_import_is_there(client):
    for name in FILES:
        for imported in re.findall(r'from "\./([^"]+)"', client.get(f"/demo/{name}").text):
            assert imported in FILES


@pytest.mark.parametrize("path", ["nothing.js", "..%2f..%2fREADME.md", "%2e%2e/questions.json", "page"])
def test_nothing_but_the_page_is_served(client, path):
    assert client.get(f"/demo/{path}").status_code == 404


def test_the_page_knows_every_selector_and_what_it_ranks_by(client):
    said = client.get("/demo/config.json").json()
    assert [one["name"] for one in said["selectors"]] == list(names())
    assert all(one["measure"] for one in said["selectors"])
    assert said["selector"] in names() and 0 < said["recompute_ratio"] < 1
    assert said["presets"] and all(one["question"] and one["source"] for one in said["presets"])
