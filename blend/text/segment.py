"""Prompt text to token ids, so that a known chunk's ids stand in them as they were computed.

Tokenising a prompt whole would merge tokens across the edges of a chunk, and the chunk would be found
nowhere. So the text is cut at the known chunk texts, the pieces are tokenised apart, and their ids joined.
"""

from blend.text.chunk_texts import ChunkTexts, Piece
from blend.text.pieces import PieceTokenizer

__all__ = ["ChunkTexts", "Piece", "PieceTokenizer", "encode_segmented"]


def encode_segmented(
    piece_tokenizer: PieceTokenizer, chunk_texts: ChunkTexts, text: str, add_special_tokens: bool
) -> list[int]:
    """Ids of a prompt in which known chunk texts may stand.

    Args:
        piece_tokenizer: of the model that the prompt is for.
        chunk_texts: what is known.
        text: the whole prompt.
        add_special_tokens: as in the tokenizer's own `encode`.

    Returns:
        Ids that decode to the text. Where no known chunk stands in it, exactly those of the tokenizer's
        own `encode`.
    """
    pieces = chunk_texts.split(text)
    if not any(piece.is_chunk for piece in pieces):
        return list(piece_tokenizer.tokenizer.encode(text, add_special_tokens=add_special_tokens))
    return piece_tokenizer.join(pieces, add_special_tokens)
