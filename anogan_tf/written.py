"""What reports wrote into a folder: a list beside the files; nothing else in the folder is ever deleted or replaced."""

import re
from collections.abc import Iterable
from pathlib import Path

from anogan_tf import atomic

NAME = "files.txt"
OURS = re.compile(
    r"files\.txt|index\.html|metrics\.json|(regions|stamps)\.json|scores\.csv|(scores|regions)\.(new|[0-9a-f]{16})\.part"
    r"|(histogram|roc|mapping_loss|search_path)\.png|test_image_\d+\.png|anomaly_map_\d+\.tiff|mask_\d+\.png"
)  # what reports are made of
UNLISTED = ("index.html", "metrics.json", "scores.csv")  # these together are a report from before there were lists


def listed(folder: str | Path) -> set[str]:
    """The names in the list of a folder; none where there is no list."""
    file = Path(folder) / NAME
    return set(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else set()


def add(folder: str | Path, *names: str) -> None:
    """Adds names to the list; to be called before the files are written, so that none is ever left out."""
    known = listed(folder)
    with open(Path(folder) / NAME, "a", encoding="utf-8") as file:
        file.writelines(f"{name}\n" for name in names if name not in known)


def remove(folder: str | Path, *, keep: Iterable[str] = ()) -> None:
    """Deletes the listed files of a folder but those to `keep`, and begins a new list with these."""
    kept = listed(folder) & set(keep)
    for name in listed(folder) - kept:
        if Path(name).name == name:  # whoever wrote the list, what is deleted lies in the folder
            (Path(folder) / name).unlink(missing_ok=True)
    with atomic.replacing(Path(folder) / NAME) as partial:
        partial.write_text("".join(f"{name}\n" for name in sorted(kept)), encoding="utf-8")


def check(folder: str | Path, *figures: str) -> None:
    """Raises a FileExistsError if a report, with more figures, could replace files that no report of ours wrote."""
    folder = Path(folder)
    if not folder.is_dir() or (not listed(folder) and all((folder / name).is_file() for name in UNLISTED)):
        return
    names = {path.name for path in folder.iterdir() if OURS.fullmatch(path.name) or path.name in figures}
    foreign = sorted(names - listed(folder) - {NAME})
    if foreign:
        raise FileExistsError(
            f"{folder} holds {len(foreign)} files that no report wrote and that one would replace, such as "
            f"{foreign[0]}. Name another folder."
        )
