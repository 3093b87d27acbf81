"""Tests that need torchmeta, which `make torchmeta` installs; they skip without it."""

from importlib.util import find_spec

import pytest

needs_torchmeta = pytest.mark.skipif(
    find_spec("torchmeta") is None, reason="torchmeta is not installed: make torchmeta"
)
