"""Notebooks are tested as they are, only with less of everything."""

import os

os.environ.setdefault("ANOGAN_TF_QUICK", "1")
