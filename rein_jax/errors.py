"""Mistakes that a user can mend: one clear sentence, never a traceback."""


class UserError(ValueError):
    """A mistake in a file, a config or a command; the message names it and the mend. The CLI prints it and exits 2."""
