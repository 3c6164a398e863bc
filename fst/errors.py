"""The two kinds of failure that reach a user as one line instead of a traceback."""


class UserError(Exception):
    """Something the user can mend; the message says how. The command ends with status 2."""

    exit_status = 2


class RunError(Exception):
    """Something went wrong at run time (a full disk, a diverged loss). The command ends with status 1."""

    exit_status = 1


def find_cause(error: BaseException) -> UserError | RunError | None:
    """The error meant for the user in a chain that libraries may have wrapped around it."""
    link: BaseException | None = error
    while link is not None and not isinstance(link, UserError | RunError):
        link = link.__cause__ or link.__context__
    return link
