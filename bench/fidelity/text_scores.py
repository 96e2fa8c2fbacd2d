"""Token F1 and exact match of an answer's text against gold answers, as SQuAD scores them.

Reference: SQuAD, https://arxiv.org/abs/1606.05250
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
    """Lower case, without punctuation, articles and double spaces.

    >>> normalise("The  U.S. Navy!")
    'us navy'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def token_f1(text: str, answers: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of words, against the gold answer that it is best against.

    Args:
        text: what was answered.
        answers: gold answers, one at least.

    >>> token_f1("It is the Eiffel Tower", ["Big Ben", "Eiffel Tower"])
    0.6666666666666666
    """
    return max(_f1(normalise(text).split(), normalise(answer).split()) for answer in answers)


def exact_match(text: str, answers: Sequence[str]) -> bool:
    """Whether the text is one of the gold answers, both normalised.

    >>> exact_match("the Eiffel Tower.", ["Eiffel tower"])
    True
    """
    return normalise(text) in {normalise(answer) for answer in answers}


def _f1(words: Sequence[str], gold: Sequence[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    common = (Counter(words) & Counter(gold)).total()
    return 2 * common / (len(words) + len(gold))  # 2PR / (P + R), with P = c / words and R = c / gold
