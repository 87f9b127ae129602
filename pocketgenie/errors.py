"""The one exception that a user is meant to read."""


class UserError(Exception):
    """Something a user can mend. The message is one line: what is wrong; how to mend it."""
