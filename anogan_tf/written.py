"""What reports wrote into a folder: a list beside the files; nothing else in the folder is ever deleted or replaced."""

import re
from collections.abc import Iterable
from pathlib import Path

from anogan_tf import atomic

NAME = "files.txt"
FOLDER = "page"  # inside, the only one that reports write into
OURS = re.compile(
    r"files\.txt|index\.html|metrics\.json|(regions|stamps)\.json|scores\.csv|(scores|regions)\.(new|[0-9a-f]{16})\.part"
    r"|(histogram|roc|mapping_loss|search_path)\.png|test_image_\d+\.png|anomaly_map_\d+\.tiff|mask_\d+\.png"
    r"|page/(thumbnail|picture|heat|reconstruction|difference)_\d+\.(jpg|webp)"
)  # what reports are made of
UNLISTED = ("index.html", "metrics.json", "scores.csv")  # these together are a report from before there were lists


def listed(folder: str | Path) -> set[str]:
    """The names in the list of a folder; none where there is no list."""
    file = Path(folder) / NAME
    return set(file.read_text(encoding="utf-8").splitlines()) if file.is_file() else set()


def add(folder: str | Path, *names: str) -> None:
    """Adds names to the list; to be called before the files are written, so that none is ever left out.

    The list is not read, so that each of many calls costs the same; a name that is added again is there twice.
    """
    with open(Path(folder) / NAME, "a", encoding="utf-8") as file:
        file.writelines(f"{name}\n" for name in names)


def remove(folder: str | Path, *, keep: Iterable[str] = ()) -> None:
    """Deletes the listed files of a folder but those to `keep`, and begins a new list with these."""
    kept = listed(folder) & set(keep)
    inside = Path(folder) / FOLDER
    folders = ("", f"{FOLDER}/") if inside.is_dir() and not inside.is_symlink() else ("",)
    for name in listed(folder) - kept:
        if name in [f"{within}{Path(name).name}" for within in folders]:  # whoever wrote the list, nothing elsewhere
            (Path(folder) / name).unlink(missing_ok=True)
    if len(folders) > 1 and not any(inside.iterdir()):
        inside.rmdir()
    with atomic.replacing(Path(folder) / NAME) as partial:
        partial.write_text("".join(f"{name}\n" for name in sorted(kept)), encoding="utf-8")


def check(folder: str | Path, *figures: str) -> None:
    """Raises a FileExistsError if a report, with more figures, could replace files that no report of ours wrote."""
    folder = Path(folder)
    if not folder.is_dir() or (not listed(folder) and all((folder / name).is_file() for name in UNLISTED)):
        return
    names = {path.relative_to(folder).as_posix() for path in (*folder.iterdir(), *folder.glob(f"{FOLDER}/*"))}
    ours = {name for name in names if OURS.fullmatch(name) or name in figures}
    foreign = sorted(ours - listed(folder) - {NAME})
    if foreign:
        raise FileExistsError(
            f"{folder} holds {len(foreign)} files that no report wrote and that one would replace, such as "
            f"{foreign[0]}. Name another folder."
        )
