"""PDF to text, page by page."""

from io import BytesIO


def pdf_text(data: bytes) -> tuple[str | None, str]:
    """Title, if the file declares one, and the text of all pages.

    Raises:
        ValueError: the file is damaged or encrypted, holds no text, or `pypdf` is not installed.
    """
    try:
        from pypdf import PdfReader
    except ImportError as error:
        raise ValueError("a PDF needs the pypdf package: pip install 'kvblend[pdf]'") from error
    try:
        reader = PdfReader(BytesIO(data))
        # Many files are encrypted with an empty user password: only changing them needs a password.
        if reader.is_encrypted and not reader.decrypt(""):
            raise ValueError("encrypted: remove the password first")
        title = reader.metadata.title if reader.metadata else None
        text = "\n\n".join(page.extract_text() for page in reader.pages)
    except ValueError:
        raise
    except Exception as error:  # pypdf raises almost anything on a damaged file
        raise ValueError(f"damaged PDF: {type(error).__name__}: {error}") from error
    if not text.strip():
        raise ValueError("no text in it: scanned pages need OCR first")
    return (title or "").strip() or None, text
