"""Puts together what the documentation's site is built of: README, docs, what they link to, and a reference.

pip install -e ".[docs]" && python docs/assemble.py && mkdocs build --strict
"""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "docs"
LINK = re.compile(r"\]\(([^)\s#]+)")


def pages() -> list[Path]:
    """The pages that the navigation names and that lie here."""
    named = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return [ROOT / name for name in named if (ROOT / name).is_file()]


def linked(page: Path) -> list[Path]:
    """The files of the repository that a page links to; in place of a folder its README."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [(page.parent / name).resolve() for name in LINK.findall(text) if "://" not in name]
    return [path / "README.md" if path.is_dir() else path for path in found]


def copy() -> None:
    """Copies the pages and all that they lead to, where it lies in the repository, so that every link holds."""
    left, seen = pages(), set()
    while left:
        file = left.pop()
        if file in seen:
            continue
        seen.add(file)
        target = OUT / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
        if file.suffix == ".md":
            left += linked(file)


def reference() -> None:
    """Writes a page for each public module, of its docstrings."""
    text = (ROOT / "anogan_tf" / "__init__.py").read_text(encoding="utf-8")
    modules = sorted(set(re.findall(r"from anogan_tf import (\w+) as \1", text)))
    folder = OUT / "docs" / "api"
    folder.mkdir(parents=True)
    for name in modules:
        (folder / f"{name}.md").write_text(f"# `anogan_tf.{name}`\n\n::: anogan_tf.{name}\n", encoding="utf-8")
    rows = "\n".join(f"- [`{name}`]({name}.md)" for name in modules)
    (folder / "index.md").write_text(f"# Reference\n\nThe public modules:\n\n{rows}\n", encoding="utf-8")


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    copy()
    reference()
