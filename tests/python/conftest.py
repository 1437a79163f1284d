"""Settings of the whole suite: hypothesis draws the same examples every time, and takes the time that they need."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # the oracles and strategies beside the tests

settings.register_profile(
    "invar",
    deadline=None,
    derandomize=True,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("invar")


@pytest.fixture
def rng():
    import numpy as np

    return np.random.default_rng(20240229)
