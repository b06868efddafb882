"""What README and docs say can be done as it stands there."""

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from anogan_tf.commands.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / f"{name}/README.md" for name in ("weights", "notebooks")),
]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The current folder, with the pictures that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    for part in ("good", "new"):
        (tmp_path / "photos" / part).mkdir(parents=True)
        for i in range(3):
            levels = np.random.default_rng(i).integers(0, 255, (8, 8), np.uint8)
            Image.fromarray(levels).save(tmp_path / "photos" / part / f"{i}.png")


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text):
    """The arguments of each `anogan-tf` in blocks and in code of a line; those with an ellipsis are not whole."""
    lines = [*"\n".join(blocks("sh", text)).splitlines(), *re.findall(r"`(anogan-tf [^`]+)`", text)]
    found = (re.search(r"anogan-tf ([^&|]+)", line) for line in lines)
    return [shlex.split(match[1], comments=True) for match in found if match and "…" not in match[1]]


def test_readme_is_short():
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("arguments", commands(README), ids=" ".join)
def test_commands_of_the_readme_are_understood(photos, arguments):
    name, *rest = arguments
    main.commands[name].make_context(name, ["photos" if word == "FOLDER" else word for word in rest])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        linked = (page.parent / unquote(path)).resolve() if path else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), target


def anchors(page):
    """What headings of a page are called in its addresses."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.slow
def test_python_of_the_readme_runs_as_it_stands(photos):
    known = {}
    for block in blocks("python"):
        exec(block, known)
    assert 0.9 < known["accuracy"] <= 1
    assert known["scores"].shape == (3,)
    assert Path("results/index.html").is_file()
