"""Notebooks are tested as they are, only with less of everything."""

import os

import pytest

os.environ.setdefault("ANOGAN_TF_QUICK", "1")
SLOW = ("02_train_anogan", "03_f_anogan", "05_inside_the_latent_space")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in SLOW and item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.slow)
