"""What takes too long for `make test` is left to `make test-all`."""

import pytest


def all_but(kept, values):
    """Parameters of a test, of which `make test` runs those that are kept; a tuple is one of several arguments."""
    return [value if value in kept else _exhaustive(value) for value in values]


def _exhaustive(value):
    return pytest.param(*(value if isinstance(value, tuple) else [value]), marks=pytest.mark.exhaustive)
