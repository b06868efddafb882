"""What a run saw: the images that it learned from, by their content, and what they look like, in a few numbers."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from anogan_tf import atomic
from anogan_tf.data.images import content_hash
from anogan_tf.data.samples import Samples

FILE = "images.npz"
LEARNED_FROM = ("train", "validation")
HASH = "S16"  # 128 bits of a SHA-256


def hashes(samples: Samples) -> np.ndarray:
    """A hash of the content of each image, `(n,)`, see `Samples.hashes`."""
    return _short(samples.hashes())


def save(run: str | Path, samples: Samples) -> None:
    """Writes the hashes of what is trained on and calibrated with into the folder of a run."""
    _write(run, {part: hashes(samples.part(part)) for part in LEARNED_FROM})


def new_files(run: str | Path, files: Sequence[str | Path]) -> tuple[list[str | Path], np.ndarray]:
    """Those of the files that a run has not seen, each content once, and their hashes."""
    found = _short(map(content_hash, files))
    _, first = np.unique(found, return_index=True)
    new = np.sort(first[~np.isin(found[first], _known(run))])
    if len(new) < len(files):
        print(
            f"Left out {len(files) - len(new)} of {len(files)} images that the run has seen, or that are there twice."
        )
    return [files[i] for i in new], found[new]


def add(run: str | Path, out: str | Path, more: np.ndarray) -> None:
    """Writes the hashes that a run keeps, and more that calibrate, into a folder."""
    parts = _parts(run)
    Path(out).mkdir(parents=True, exist_ok=True)
    _write(out, parts | {"validation": np.concatenate([parts["validation"], more])})


def _short(contents):
    return np.array([bytes.fromhex(content)[:16] for content in contents], HASH)


def _write(folder, parts):
    with atomic.replacing(Path(folder) / FILE) as partial:
        np.savez(partial, **{part: np.sort(found) for part, found in parts.items()})


def _parts(run):
    """The hashes of the images that a run learned from, by part; none of a run that kept none."""
    file = Path(run) / FILE
    if not file.is_file():
        return dict.fromkeys(LEARNED_FROM, np.empty(0, HASH))
    with np.load(file, allow_pickle=False) as known:
        return {part: known[part] for part in LEARNED_FROM}


def _known(run):
    return np.concatenate(list(_parts(run).values()))


def unseen(run: str | Path, samples: Samples) -> Samples:
    """Those of the samples that the run did not learn from; all of them for a run that kept no hashes.

    Raises:
        ValueError: If none is left.
    """
    known = _known(run)
    if not len(known):
        return samples
    seen = np.isin(hashes(samples), known)
    count = int(seen.sum())
    if count and seen.all():
        raise ValueError(f"All {count} images were trained on or calibrated with: name others to test on.")
    if count:
        print(f"Left out {count} of {len(samples)} images that were trained on or calibrated with.")
    return samples.take(~seen)


@dataclasses.dataclass
class Looks:
    """The ranges of what images look like: sizes, brightness, and the tint of each colour channel.

    Attributes:
        ranges: The smallest and the largest value by name; sizes in pixels, the others of images in [-1, 1].
    """

    ranges: dict = dataclasses.field(default_factory=dict)

    def add(self, batch: dict) -> None:
        """Widens the ranges by a batch, a dict of `image` `(n, height, width, channels)`, `height` and `width`."""
        images = np.asarray(batch["image"], np.float32)
        means = images.mean(axis=(1, 2))  # (n, channels)
        brightness = means.mean(axis=1)
        values = {"height": batch["height"], "width": batch["width"], "brightness": brightness}
        if means.shape[1] == 3:
            values |= dict(zip(("red", "green", "blue"), (means - brightness[:, None]).T, strict=True))
        for name, column in values.items():
            found = [float(np.min(column)), float(np.max(column))]
            low, high = self.ranges.get(name, found)
            self.ranges[name] = [min(low, found[0]), max(high, found[1])]

    def watch(self, batches: Iterable[dict]) -> Iterable[dict]:
        """Hands the batches on as they are, and adds each when it passes."""
        for batch in batches:
            self.add(batch)
            yield batch

    def unlike(self, trained: dict) -> str | None:
        """What all that was added has outside of the ranges of a training: a sentence, or None.

        Brightness and tint are outside if they are farther away than the training images are from each other, and than
        0.1; a single picture of a few training images may well be a little brighter than these.
        """
        found = []
        for name, (low, high) in self.ranges.items():
            if name not in trained:
                continue
            least, most = trained[name]
            margin = 0.0 if name in ("height", "width") else max(most - least, 0.1)
            if high < least - margin or low > most + margin:
                found.append(f"{name} {_range(low, high)}, there {_range(least, most)}")
        if not found:
            return None
        return (
            f"All these images are unlike those that the run was trained on: {'; '.join(found)}. Scores and p-values "
            "hold for images like those: train on such as these, or take these as those were taken."
        )


def _range(low, high):
    """Two numbers as one reads them, and one where they are the same."""
    low, high = f"{low:.4g}", f"{high:.4g}"
    return low if low == high else f"{low} to {high}"


def looks(batches: Iterable[dict]) -> dict:
    """The ranges that `Looks` finds in all batches."""
    found = Looks()
    for batch in batches:
        found.add(batch)
    return found.ranges
