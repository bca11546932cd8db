"""Consent: an avatar of a real person is trained only with a statement that the person agreed, and the checkpoint keeps it."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

from avatarzoo.errors import ConsentError

QUESTION = "This trains an avatar of a real person. Who is it, and how and when did they agree (or why is no consent needed)?\n> "
REFUSAL = (
    "Training on real people needs a statement that they agreed: add --consent statement.txt or --consent-statement "
    '"I am the person in the video" (it is stored in the checkpoint); made-up people need none.'
)


def needed(data: Any) -> bool:
    """Whether a data module shows real people; one that does not say shows some."""
    return not getattr(data, "is_procedural", False)


def consent(file: str | None, text: str | None) -> dict[str, str]:
    """The statement of ``--consent`` or ``--consent-statement``, else asked for where a person sits at the terminal.

    Raises:
        ConsentError: there is none.
    """
    if file is not None:
        statement, origin = read(Path(file)), Path(file).name
    elif text is not None:
        statement, origin = text, "command line or configuration"
    elif sys.stdin is not None and sys.stdin.isatty():
        try:
            statement, origin = input(QUESTION), "typed when asked"
        except EOFError:
            statement, origin = "", ""
    else:
        raise ConsentError(REFUSAL)
    if not any(c.isalpha() for c in statement):
        raise ConsentError(REFUSAL)
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"statement": statement.strip(), "from": origin, "given": when}


def read(path: Path) -> str:
    """A statement in a file.

    Raises:
        ConsentError: there is none.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConsentError(
            f"The consent statement {path} cannot be read as text ({error}); name a text file, or use --consent-statement."
        ) from error
