"""Splitting of texts into chunks: contiguous pieces up to a number of the served model's tokens."""

from collections.abc import Callable, Iterator
from functools import lru_cache

from precompute import suffixes

CHUNKING = "recursive-tokens-1"
"""Version of the rule from files to chunk texts; change it whenever reading or splitting changes a result."""

# Regular expressions for paragraphs, lines, ends of sentences (Latin, Chinese, Japanese), words, characters.
PLAIN_SEPARATORS = ["\n\n", "\n", r"(?<=[.!?])\s|(?<=[\u3002\uff01\uff1f])", " ", ""]
_UNUSABLE = {"$", "$$"}  # in the list for LaTeX: as regular expressions they match the end of the text

Count = Callable[[str], int]


def split(text: str, suffix: str, chunk_tokens: int, count_tokens: Count) -> list[str]:
    """Split a text into chunks without overlap, in reading order, each stripped of white space.

    Only white space lies between two chunks.

    Args:
        suffix: of the text's file, such as ".md"; selects the separators.
        chunk_tokens: maximum tokens of a chunk.
        count_tokens: number of tokens of a text as it stands in the middle of a prompt.

    Raises:
        ValueError: a single character takes more than `chunk_tokens` tokens.
    """
    count = lru_cache(maxsize=None)(count_tokens)  # the splitter measures each piece several times
    pieces = _cut(text, suffix, chunk_tokens, count)
    filled = _fill(pieces, chunk_tokens, count)
    return [chunk for piece in filled for chunk in _within(piece.strip(), chunk_tokens, count)]


def _cut(text: str, suffix: str, chunk_tokens: int, count: Count) -> list[str]:
    """Pieces that concatenate to the text, most of them small enough."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        separators=_separators(suffix),
        is_separator_regex=True,
        keep_separator=True,
        strip_whitespace=False,
        chunk_size=chunk_tokens,
        chunk_overlap=0,
        length_function=count,
    )
    return splitter.split_text(text)


def _separators(suffix: str) -> list[str]:
    from langchain_text_splitters import Language, RecursiveCharacterTextSplitter

    language = suffixes.LANGUAGES.get(suffix.lower())
    if language is None:
        return PLAIN_SEPARATORS
    separators = RecursiveCharacterTextSplitter.get_separators_for_language(Language(language))
    return [s for s in separators if s not in _UNUSABLE and s not in PLAIN_SEPARATORS] + PLAIN_SEPARATORS


def _fill(pieces: list[str], chunk_tokens: int, count: Count) -> Iterator[str]:
    """Join adjacent pieces while they fit: the rest of a long section joins the next section."""
    current = ""
    for piece in pieces:
        if current.strip() and count((current + piece).strip()) > chunk_tokens:
            yield current
            current = piece
        else:
            current += piece
    yield current


def _within(chunk: str, chunk_tokens: int, count: Count) -> Iterator[str]:
    """The chunk, or halves of it: token counts are not additive, so a joined piece may exceed the limit."""
    if not chunk:
        return
    if count(chunk) <= chunk_tokens:
        yield chunk
        return
    if len(chunk) == 1:
        raise ValueError(f"{chunk!r} takes {count(chunk)} tokens, expected at most {chunk_tokens}")
    middle = len(chunk) // 2
    # Cut at a space near the middle, if there is one.
    cut = chunk.rfind(" ", middle // 2, middle + 1)
    cut = cut if cut > 0 else middle
    yield from _within(chunk[:cut].strip(), chunk_tokens, count)
    yield from _within(chunk[cut:].strip(), chunk_tokens, count)
