"""Tables that commands write into documents, between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""

from __future__ import annotations

from pathlib import Path


def insert(text: str, name: str, table: str) -> str:
    """``text`` with ``table`` between the marker lines of ``name``.

    Raises:
        ValueError: the text does not hold each of them once, in this order.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->\n"
    before, first, rest = text.partition(begin)
    _, last, after = rest.partition(end)
    if not (first and last) or any(mark in before + after for mark in (begin, end)):
        raise ValueError(
            f"needs the lines {begin.strip()} and {end.strip()}, once each, around the table"
        )
    return f"{before}{begin}{table}\n{end}{after}"


def write_table(path: Path, name: str, table: str | None) -> None:
    """Put ``table`` between the marker lines of ``name``; None: only check that they are there.

    Raises:
        OSError: the file cannot be read or written.
        ValueError: the markers are not there, once each.
    """
    try:
        text = insert(path.read_text(), name, table or "")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if table is not None:
        path.write_text(text)
