"""The questions that `kvblend calibrate` asks, as the laboratory takes them."""

from collections.abc import Sequence

from bench.fidelity.question import Question
from blend.vllm.engine.calibrate import NUM_ORDERS
from blend.vllm.gate.prompts import PROMPTS, GatePrompt


def built_in_questions(prompts: Sequence[GatePrompt] = PROMPTS) -> list[Question]:
    """Each question behind all passages, in several orders; the order is the one of `kvblend calibrate`."""
    passages = tuple(dict.fromkeys(text for prompt in prompts for text in prompt.passages))
    questions = []
    for number, prompt in enumerate(prompts):
        for order in range(NUM_ORDERS):
            shift = (number + order * 2) % len(passages)
            turned = passages[shift:] + passages[:shift]
            questions.append(Question(f"{number}-{order}", prompt.question, ("",), turned, passages))
    return questions
