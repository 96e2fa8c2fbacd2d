"""PDF to text, page by page."""

from io import BytesIO


def pdf_text(data: bytes) -> tuple[str | None, str]:
    """Title, where the file declares one, and the text of all pages.

    Raises:
        ValueError: the file is damaged or encrypted, there is no text in it, or `pypdf` is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise ValueError("a PDF needs the pypdf package: pip install 'kvblend[pdf]'") from error
    try:
        reader = PdfReader(BytesIO(data))
        # Many files are encrypted with no password to read, only to change them.
        if reader.is_encrypted and not reader.decrypt(""):
            raise ValueError("encrypted: remove the password first")
        title = reader.metadata.title if reader.metadata else None
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    except ValueError:
        raise
    except Exception as error:  # a damaged file makes the parser raise almost anything; the caller names it
        raise ValueError(f"not a sound PDF: {type(error).__name__}: {error}") from error
    if not text.strip():
        raise ValueError("no text in it: scanned pages need OCR first")
    return (title or "").strip() or None, text
