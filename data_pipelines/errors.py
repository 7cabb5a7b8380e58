"""Mistakes in data that a user can fix: one clear sentence that names the file and the fix."""


class DataError(ValueError):
    """Data on disk, or the way it was asked for, does not fit; the message names the file or option and the fix."""
