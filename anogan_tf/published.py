"""Published runs: found by name, and checked before anything is loaded."""

import hashlib
import os
import re
from pathlib import Path

from anogan_tf import atomic

SUMS = "SHA256SUMS"
LISTED = re.compile(r"([0-9a-f]{64}) [ *]([^/\\]+)")
CLONE = Path(__file__).parents[1] / "weights"


def folder() -> Path:
    """Where published runs are: the folder that `ANOGAN_TF_WEIGHTS` names, else that of the clone."""
    return Path(os.environ.get("ANOGAN_TF_WEIGHTS") or CLONE)


def names() -> list[str]:
    """The names of published runs."""
    return sorted({path.parent.name for file in (SUMS, "run.json") for path in folder().glob(f"*/{file}")})


def find(run: str | Path) -> Path:
    """The folder of a run: `run` itself if it is one, else the published run of that name.

    Args:
        run: A folder with a `run.json`, or a name such as `"mnist-8"`.

    Raises:
        FileNotFoundError: If there is neither, or a file of a published run is missing.
        ValueError: If a file of a published run is not the one that was published.
    """
    path, known = Path(run), names()
    if (path / "run.json").is_file():
        if (path / SUMS).is_file():
            check(path)
        return path
    if str(run) in known:
        check(folder() / run)
        return folder() / run
    published = f"Published runs in {folder()}: {', '.join(known)}." if known else f"None is published in {folder()}."
    raise FileNotFoundError(
        f"{run} is no run: it has no run.json. `anogan-tf train SOURCE --out {run}` makes one. {published} An "
        "installation holds no published run: give the path of one, such as CLONE/weights/mvtec-bottle of a clone of "
        "the repository, or once `export ANOGAN_TF_WEIGHTS=CLONE/weights` and then its name."
    )


def seal(path: str | Path) -> None:
    """Writes the SHA-256 of what is loaded from the folder of a run into its `SHA256SUMS`, as `sha256sum` does."""
    files = sorted(file for file in Path(path).iterdir() if file.suffix in (".h5", ".json", ".npz"))
    with atomic.replacing(Path(path) / SUMS) as partial:
        partial.write_text("".join(f"{_sha256(file)}  {file.name}\n" for file in files))


def check(path: str | Path) -> None:
    """Compares the files in the folder of a published run with its `SHA256SUMS`.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If one is damaged, or would be loaded and is not listed.
    """
    path = Path(path)
    listed = _listed(path / SUMS)
    for name in sorted({"run.json", *listed, *(file.name for file in path.glob("*.h5"))}):
        file = path / name
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing: fetch {path} again.")
        if name not in listed:
            raise ValueError(f"{file} is foreign: {SUMS} does not list it. Remove it, or fetch {path} again.")
        if _sha256(file) != listed[name]:
            raise ValueError(f"{file} is damaged: its SHA-256 is not the one in {SUMS}. Fetch {path} again.")


def _listed(file):
    """The SHA-256 of each file that a `SHA256SUMS` lists, by name."""
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: fetch {file.parent} again.")
    lines = [LISTED.fullmatch(line) for line in file.read_text(errors="replace").splitlines()]
    if None in lines:
        raise ValueError(f"{file} is damaged: its lines are not a SHA-256 and a name. Fetch {file.parent} again.")
    return {line[2]: line[1] for line in lines}


def _sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()
