"""Lets the tests of this folder import what they share with the scripts that they start."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """Lightning's DDP strategy leaves LOCAL_RANK behind, by which Accelerate would go later."""
    with patch.dict(os.environ):
        yield
