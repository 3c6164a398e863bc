"""The two kinds of failure that reach a user as one line instead of a traceback, and how that line is made."""

import re

LONGEST_LINE = 400  # characters of a message: the mistake and what to do, not a library's pages


class UserError(Exception):
    """Something the user can mend; the message says how. The command ends with status 2."""

    exit_status = 2


class RunError(Exception):
    """Something went wrong at run time (a full disk, a diverged loss). The command ends with status 1."""

    exit_status = 1


def find_cause(error: BaseException) -> UserError | RunError | None:
    """The error meant for the user in a chain that libraries may have wrapped around it."""
    link: BaseException | None = error
    seen: set[int] = set()  # an exception that is raised again and again can become its own context
    while link is not None and id(link) not in seen:
        if isinstance(link, UserError | RunError):
            return link
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return None


def one_line(text: object, longest: int | None = LONGEST_LINE) -> str:
    r"""A text from a file, a library or the user as it may be printed: line breaks become spaces, characters that
    would act on a terminal are written as escapes, and of a long text the middle is left out.

    >>> one_line("no style '\x1b[2J\n'")
    "no style '\\x1b[2J '"

    Args:
        longest: characters; `None` keeps all.
    """
    flat = re.sub(r"\s*[\r\n]\s*", " ", str(text))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)
    if longest is None or len(shown) <= longest:
        return shown
    half = (longest - 3) // 2
    return f"{shown[:half]} … {shown[-half:]}"
