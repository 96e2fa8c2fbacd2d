"""The lead: a neutral text behind which chunks are computed, except for the first place of a prompt.

Encoded directly after the prefix, a chunk's tokens have only the prefix to attend to, so they over-attend to
it. In a prompt that attention is spread over the preceding documents. Behind the lead, a chunk's tokens
attend to other documents, as they will in a prompt. The rows of the lead are dropped together with those of
the prefix: no prompt contains them.

FusionRAG computes a chunk behind related chunks. The lead is the same text for every chunk of every
collection, so a chunk's KV depends only on its own tokens, the prefix and this text.

Reference: FusionRAG, https://arxiv.org/abs/2601.12904
"""

from collections.abc import Callable, Sequence

from blend.text.frame import SEPARATOR

PASSAGES = (
    "Lake Orrin\n"
    "Lake Orrin is a freshwater lake in the north of the province, about forty kilometres long and "
    "six wide. It was formed by a glacier that retreated some nine thousand years ago and is fed by "
    "three rivers, of which the Tamsel is the largest. The first ferry across it began to run in "
    "1871, and until the bridge was opened in 1936 it was the only way to reach the villages on the "
    "eastern shore. Around 12,000 people live there today, most of them from forestry, fishing and, "
    "in summer, from visitors.",
    "Configuring the backup service\n"
    "The service reads its settings from a file named backup.conf. Each line holds one option and its "
    "value. The option interval sets how often a copy is made, in minutes; the default is 60. With "
    "keep, the number of copies that are retained is limited, and the oldest is deleted first. If the "
    "option verify is set to yes, every file is read again after it was written, and a warning is "
    "logged when the two differ. Run the command with --dry-run to see what would be done without "
    "doing it.",
    "Helena Marsk\n"
    "Helena Marsk (14 March 1902 - 2 November 1987) was a composer and teacher. Born the youngest of "
    "five children of a clockmaker, she studied the violin before she turned to composition in 1921. "
    "Her second symphony, first played in 1934, made her known abroad; it was followed by two operas "
    "and a large number of songs. From 1949 to 1968 she directed the conservatory, where several "
    "well-known conductors were among her students. She received the state prize for music in 1955.",
    "City win the cup after extra time\n"
    "City won the national cup for the third time on Saturday, when they beat United by three goals "
    "to two in front of a crowd of 41,500. United led twice in the first half, but a header after 78 "
    "minutes took the match into extra time. The decisive goal was scored by the captain, who had "
    'announced his retirement in April. "We never stopped believing," the manager said afterwards. '
    "The team will now play in the first round of the continental competition in August.",
)
"""Four invented passages of common kinds: an encyclopedia entry, a manual, a biography, a news report.

Every chunk id of a led version covers this text: after a change, all these versions are computed again.
"""


def lead_ids(encode: Callable[[str], Sequence[int]]) -> tuple[int, ...]:
    """Ids of the lead: its passages as in a prompt, each followed by a separator.

    Args:
        encode: returns the ids of a text in the middle of a prompt, as for chunks and separators.

    >>> len(lead_ids(str.split)) == sum(len(passage.split()) for passage in PASSAGES)
    True
    """
    separator = encode(SEPARATOR)
    return tuple(token for passage in PASSAGES for token in (*encode(passage), *separator))
