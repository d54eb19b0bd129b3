"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and how to mend it.

    Commands print it as ``error: <message>`` and exit with status 2; library callers may catch it.
    """
