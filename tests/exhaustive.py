"""What takes too long for `make test` is left to `make test-all`."""

import pytest


def all_but(kept, values):
    """Parameters of a test, of which `make test` runs those that are kept."""
    return [value if value in kept else pytest.param(value, marks=pytest.mark.exhaustive) for value in values]
