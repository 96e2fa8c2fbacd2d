"""Prompts of a tokenizer without a model."""

import pytest

from bench.ttft.prompts import PromptMaker, built_in_texts
from tests.blend.text.conftest import byte_level


@pytest.fixture
def maker() -> PromptMaker:
    return PromptMaker(byte_level(add_prefix_space=False), built_in_texts())
