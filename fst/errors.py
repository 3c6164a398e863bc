"""The two kinds of errors that a user sees as one line instead of a traceback, and how that line is made."""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

LONGEST_LINE = 400  # characters of a message: libraries may add pages


class UserError(Exception):
    """A mistake that the user can correct; the message says how. The command ends with status 2."""

    exit_status = 2


class RunError(Exception):
    """A failure at run time, such as a full disk or a diverged loss. The command ends with status 1."""

    exit_status = 1


def find_cause(error: BaseException) -> UserError | RunError | None:
    """The UserError or RunError in a chain of exceptions, if there is one: libraries wrap it in their own."""
    link: BaseException | None = error
    seen: set[int] = set()  # an exception that is raised repeatedly can become its own context
    while link is not None and id(link) not in seen:
        if isinstance(link, UserError | RunError):
            return link
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return None


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """End the process with the status that `main` returns. A UserError, a RunError, a file that cannot be opened and
    Ctrl-C are one line in place of a traceback."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        message, status = "stopped", 130
    except Exception as error:
        if cause := find_cause(error):
            message, status = one_line(cause), cause.exit_status
        elif isinstance(error, OSError) and error.filename is not None:
            message, status = one_line(f"{error.filename}: {error.strerror}"), RunError.exit_status
        else:
            raise
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(status)


@contextmanager
def errors_of(name: object) -> Iterator[None]:
    """Puts `name` before the message of a UserError or RunError that does not begin with it."""
    try:
        yield
    except (UserError, RunError) as error:
        if str(error).startswith(str(name)):
            raise
        raise type(error)(f"{name}: {error}") from error


def one_line(text: object, longest: int | None = LONGEST_LINE) -> str:
    r"""A text from a file, a library or the user, safe to print: line breaks become spaces, characters that
    would act on a terminal are written as escapes, and of a long text the middle is left out.

    >>> one_line("no style '\x1b[2J\n'")
    "no style '\\x1b[2J '"

    Args:
        longest: the most characters; `None` for no limit.
    """
    flat = re.sub(r"\s*[\r\n]\s*", " ", str(text))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in flat)
    if longest is None or len(shown) <= longest:
        return shown
    half = (longest - 3) // 2
    return f"{shown[:half]} … {shown[-half:]}"
