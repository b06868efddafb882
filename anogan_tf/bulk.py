"""Scores more pictures than one machine does in time: blocks of them on Ray Data, each with the bits of one process."""

from __future__ import annotations

import collections
import contextlib
import heapq
import itertools
import json
import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anogan_tf import atomic, data, judging, plots, report, scoring, stages, table, thresholds
from anogan_tf.data.images import SUFFIXES, Encoded
from anogan_tf.runs import files_of, fingerprint, load_run, read_run
from anogan_tf.scoring import Scorer

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from anogan_tf import blocks
except ImportError as error:
    raise ImportError("Scoring in bulk needs Ray Data: pip install anogan-tf[ray].") from error

BLOCK = 512  # pictures of a block, about
FORMAT = 1
LISTED = 1000  # pictures on the page, and no more in memory
DRAWN_FROM = 100_000  # scores that the histogram shows, about
TRIES = 3  # of a block, before its pictures are judged one by one
DIED = "the process that scored it died, as of its block before."
RESERVED = 0.5  # CPUs of a worker: should half of the machines go, the others have room for all workers
ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # for workers as it is here, or as the command line sets it
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    **dict.fromkeys(
        ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
    ),
}  # of a worker, set before TensorFlow is imported


def score(
    run: str | Path,
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    alpha: float | None = None,
    threshold: float | None = None,
    pictures: int = 1000,
    masks: bool = False,
    pattern: str | None = None,
    address: str | None = None,
    workers: int | None = None,
    gpus_per_worker: float = 0.0,
) -> dict[str, int]:
    """Scores pictures on a cluster, or on all cores of this machine, into a folder of Parquet files and a page.

    Scores are those of one process, bit by bit, on the same kind of processor, whatever the number of workers, the
    order, and who was killed meanwhile. Interrupted, the same call goes on with the blocks that are missing.

    Args:
        run: The folder of a run, or the name of a published one; workers get its files sent.
        source: A folder, a glob pattern, or a `.parquet` file with a column `path`, or with `bytes`, the files
            themselves, and perhaps `id`. A path that all machines have, or an address that fsspec knows.
        out: Folder on this machine: `scores/*.parquet`, a row an image, and the page of the most anomalous.
        alpha: Another rate of false alarms than the run's; None for that.
        threshold: A number in place of the calibrated threshold; None for that.
        pictures: Images to draw at most, the most anomalous first.
        masks: Whether to write the pixels of their regions as PNG files.
        pattern: Glob pattern of the files of a folder; None for all pictures.
        address: Of a Ray cluster, such as `"auto"`; None to start one on this machine.
        workers: Processes that score; None for as many as there are GPUs for them, else CPUs but one.
        gpus_per_worker: GPUs, or a fraction of one, for each.

    Returns:
        How many images were scored, `total`, how many of them are `anomalous`, of these `suspicious`, and how many were
        `skipped`, as they cannot be read.

    Raises:
        ImportError: Without Ray, before anything is read.
        FileNotFoundError: If there is no such run or source.
        ValueError: If `out` holds scores of another run, source or threshold; if there is nothing to score.
        OSError: If `out` cannot be written into, or holds files that no report wrote; if a source cannot be listed.
    """
    out = Path(out)
    ray = _ray()
    report.check(out)
    scorer = _scorer(run, alpha, threshold)
    source = os.fspath(source)
    job = _job(run, source, alpha, threshold, pattern)
    with atomic.exclusive(out):
        _check_job(out, job)
        if blocks.job_of(out) is None:
            blocks.list_blocks(out, _blocks(source, pattern, scorer.chunk), job)
        (out / blocks.SCORES).mkdir(exist_ok=True)
        n_blocks, n = blocks.count(out)
        if not n:
            (out / blocks.LISTING).unlink()
            raise ValueError(f"There are no pictures to score at {source}.")
        left = set(range(n_blocks)) - blocks.done(out)
        if left:
            task = (_files(run), job["run"], alpha, threshold)
            with _cluster(ray, address), stages.bar("Scoring", total=n) as bar:
                for block, rows, content in _judged_blocks(ray, out, left, task, workers, gpus_per_worker):
                    with atomic.replacing(blocks.scores(out, block)) as partial:
                        partial.write_bytes(content)
                    bar.update(rows)
        return _show(scorer, out, n_blocks, str(run), pictures, threshold, masks)


def judged(scorer: Scorer, contents: Sequence[bytes], threshold: float | None = None) -> list[dict[str, Any]]:
    """What a scorer says of pictures' files: for each a dict of the `blocks.SCORED` columns, without `run`.

    Args:
        scorer: The scorer.
        contents: The files, as bytes; `id` is their number, from 1.
        threshold: As in `score`.
    """
    skipped: list[tuple[str, str]] = []
    pictures = data.read_files(map(Encoded, contents), scoring.preprocessing_of(scorer), scorer.chunk, skipped)
    rows = {}
    for results, regions in judging.judged_chunks(scorer, pictures, threshold):
        for result, few in zip(results, regions, strict=True):
            rows[result["id"]] = result | {"regions": json.dumps(few) if few else None, "error": None}
    rows |= {name: {"error": reason} for name, reason in skipped}
    return [rows[str(number)] for number in range(1, len(contents) + 1)]


class _Shared:
    """`blocks.Deaths` that outlive the workers which they are of: those of an actor of Ray."""

    def __init__(self, ray):
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(blocks.Deaths)
        self._deaths = actor.remote()

    def begin(self, *what):
        return _ray().get(self._deaths.begin.remote(*what))

    def end(self, *what):
        self._deaths.end.remote(*what)  # arrives before what begins next


class Worker:
    """The scorer of a run, which judges one block after the other.

    Where processes died at a block `TRIES` times, its pictures are judged one by one. One at which a process dies then
    is passed over, and its row tells why.

    Args:
        files: The files of the run, their content by their name.
        fingerprint: Of the run, which each row tells.
        alpha: As in `score`.
        threshold: As in `score`.
        deaths: Of this worker and those before it; None for this one's.
    """

    tries = TRIES

    def __init__(
        self,
        files: dict[str, bytes],
        fingerprint: str,
        alpha: float | None = None,
        threshold: float | None = None,
        deaths: blocks.Deaths | _Shared | None = None,
    ) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            self.scorer = _scorer(folder, alpha, threshold)
        self.fingerprint = fingerprint
        self.threshold = threshold
        self.deaths = blocks.Deaths() if deaths is None else deaths
        self._scoring = threading.Lock()

    def __call__(self, listed: pa.Table) -> pa.Table:
        """Tables of `blocks.LISTED` as tables of `block`, `rows`, and `content`, the Parquet file of its scores.

        Threads may call it: they read at the same time, and score one after the other.
        """
        found = []
        for block in listed.to_pylist():
            read, file = blocks.contents(block), pa.BufferOutputStream()
            with self._scoring:
                scored = self._rows(block, read)
            pq.write_table(scored, file)
            found.append({"block": block["block"], "rows": len(block["ids"]), "content": file.getvalue().to_pybytes()})
        return pa.Table.from_pylist(found)

    def judged(self, contents: Sequence[bytes]) -> list[dict[str, Any]]:
        """As the function `judged`."""
        return judged(self.scorer, contents, self.threshold)

    def _rows(self, block, read):
        readable = [content for content, _ in read if content is not None]
        together = self.deaths.begin(block["block"]) < self.tries
        scored = iter(self.judged(readable) if together else self._one_by_one(block["block"], readable))
        self.deaths.end(block["block"])
        rows = [{"error": error} if content is None else next(scored) for content, error in read]
        named = [{**row, "id": name, "run": self.fingerprint} for name, row in zip(block["ids"], rows, strict=True)]
        return pa.Table.from_pylist(named, blocks.SCORED)

    def _one_by_one(self, number, contents):
        rows = []
        for place, content in enumerate(contents):
            if self.deaths.begin(number, place):
                rows.append({"error": DIED})
            else:
                rows += self.judged([content])
                self.deaths.end(number, place)
        return rows


def _scorer(run, alpha, threshold):
    """The scorer of a run, calibrated at another rate of false alarms where one is given."""
    if alpha is not None and threshold is not None:
        raise ValueError(f"alpha sets a threshold, too: give one of them. Received: alpha={alpha}, {threshold=}.")
    scorer = load_run(run)
    judging.check_threshold(scorer, threshold)
    if alpha is not None:
        scorer.recalibrate(alpha)
    return scorer


def _ray():
    """Ray with its Data, or an ImportError that names the extra."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("Scoring in bulk needs Ray Data: pip install anogan-tf[ray].") from error
    return ray


def _files(run):
    """The files that a run is loaded from, their content by their name."""
    return {file.name: file.read_bytes() for file in files_of(run)}


def _job(run, source, alpha, threshold, pattern):
    """What is scored how: scores of one job lie in one folder."""
    source = source if "://" in source else os.path.abspath(source)
    decided = {"alpha": alpha, "threshold": threshold}
    return {"format": FORMAT, "run": fingerprint(run), "source": source, "pattern": pattern, **decided}


def _check_job(out, job):
    """Raises a ValueError if a folder holds scores of another job."""
    there = blocks.job_of(out)
    if there in (None, job):
        return
    changed = [name for name in job if there.get(name) != job[name]]
    lines = "".join(f"\n  {name}: {there.get(name)!r} there, {job[name]!r} now" for name in changed)
    raise ValueError(f"{out} holds scores of other work; name another folder, or delete it:{lines}")


def _blocks(source, pattern, chunk):
    """The blocks of a source; of a folder on this machine as `anogan-tf score` lists it."""
    size = chunk * max(1, BLOCK // chunk)
    if os.path.isdir(source):
        files = data.list_files([source], pattern)
        return blocks.blocks_of(((file, os.path.abspath(file)) for file in files), size)
    return blocks.find(source, pattern, SUFFIXES, size)


@contextlib.contextmanager
def _cluster(ray, address):
    """Joins a cluster of Ray, or starts one on this machine, quietly; one that the process has joined is taken."""
    context = ray.data.DataContext.get_current()
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    loggers = {name: logging.getLogger(name).level for name in ("ray", "ray.data")}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ours = not ray.is_initialized()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\.")
            if ours:
                started = {} if address else {"include_dashboard": False}  # it costs CPU, and listens
                ray.init(address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **started)
            yield
    finally:
        if ours:
            ray.shutdown()
        context.enable_progress_bars = bars
        for name, level in loggers.items():
            logging.getLogger(name).setLevel(level)


def _judged_blocks(ray, out, left, task, workers, gpus_per_worker):
    """Number, rows and Parquet file of each block that is left, as they are done."""
    workers = _workers(ray.cluster_resources(), workers, gpus_per_worker)
    files, *how = task
    listed = [ray.put(some) for some in blocks.listed(out, left)]
    dataset = ray.data.from_arrow_refs(listed).repartition(target_num_rows_per_block=1)
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=2, enable_true_multi_threading=True)
    dataset = dataset.map_batches(
        Worker,
        fn_constructor_args=(files, *how, _Shared(ray)),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=RESERVED,
        num_gpus=gpus_per_worker or None,
        compute=pool,
        max_concurrency=2,  # so that one block is read while another is scored
        runtime_env={"env_vars": ENVIRONMENT | {ONEDNN: os.environ.get(ONEDNN, "1")}},
    )
    try:
        for found in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in found.to_pylist():
                yield row["block"], row["rows"], row["content"]
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"A worker failed: {_cause(error)}") from error


def _cause(error):
    """The line of a traceback from a worker that says what was wrong, without what Ray raises around it."""
    first, *_ = str(error).partition("\n\nThe above exception")
    return first.strip().splitlines()[-1]


def _workers(resources, workers, gpus_per_worker):
    """How many workers there are: those asked for, if they have room."""
    cpus, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0.0)
    most = int(gpus / gpus_per_worker) if gpus_per_worker else cpus
    if workers is None:
        workers = max(1, most if gpus_per_worker else cpus - 1)
    if workers > max(1, most):
        raise ValueError(
            f"More workers than {'GPUs' if gpus_per_worker else 'CPUs'} gain nothing. Received: {workers} workers for "
            f"{cpus} CPUs and {gpus:g} GPUs."
        )
    return workers


def _show(scorer, out, n_blocks, run, pictures, threshold, masks):
    """The results page of the most anomalous images, which are read once more and drawn here."""
    most, counts, skipped, scores = _summary(out, n_blocks, max(pictures, LISTED))
    n = counts["normal"] + counts["suspicious"] + counts["anomalous"]
    if not n:
        raise ValueError(f"There are no images to score: none of {counts['error']} could be read.")
    figures = judging.unlabelled_figures(scorer, threshold, n=n, skipped=counts["error"], run=run)
    figures["mind"] = read_run(run).get("diagnosis", [])
    with table.ScoreTable(out) as scored:
        scored.add(
            [{name: row.get(name) for name in table.COLUMNS} for row in most],
            [json.loads(row["regions"] or "[]") for row in most],
        )
        scored.finish(skipped)
    del most[pictures:]  # which nothing needs any more, and which is much
    decided = {decision: counts[decision] for decision in thresholds.DECISIONS}
    report.show(
        out,
        _drawn(scorer, out, most),
        figures,
        figures["pixel_threshold"],
        skipped,
        {"histogram": plots.histogram(scores, figures["threshold"])},
        masks,
        normal_scores=scorer.calibration.scores if scorer.calibration else (),
        of={"total": n, **decided, "table": f"{blocks.SCORES}/"},
    )
    return {
        "total": n,
        "anomalous": n - decided["normal"],
        "suspicious": decided["suspicious"],
        "skipped": counts["error"],
    }


def _summary(out, n_blocks, n):
    """Over all blocks, one at a time: the n most anomalous rows, how many were decided how, what was skipped, scores.

    The rows tell their `block` and their `place` in it; of what was skipped there are as many as a page lists, and of
    the scores about as many as a histogram needs.
    """
    most, counts, skipped, scores = [], collections.Counter(), [], []
    step = 1 + n_blocks * BLOCK // DRAWN_FROM
    for block in range(n_blocks):
        rows = pq.read_table(blocks.scores(out, block))
        rows = rows.append_column("block", pa.array([block] * len(rows)))
        rows = rows.append_column("place", pa.array(range(len(rows))))
        unread, rows = rows.filter(pc.is_valid(rows["error"])), rows.filter(pc.is_null(rows["error"]))
        counts.update(rows["decision"].to_pylist())
        counts["error"] += len(unread)
        few = unread.slice(0, LISTED - len(skipped)).to_pylist()
        skipped += [(row["id"], row["error"]) for row in few]
        scores.append(rows["anomaly_score"].to_numpy()[::step])
        if len(most) == n:
            rows = rows.filter(pc.greater(rows["anomaly_score"], most[-1]["anomaly_score"]))
        most = heapq.nlargest(n, itertools.chain(most, rows.to_pylist()), key=lambda row: row["anomaly_score"])
    return most, counts, skipped, np.concatenate(scores)


def _drawn(scorer, out, rows):
    """Pairs of a row of the table and what is drawn of it, see `report.show`."""
    kept = {(row["block"], row["place"]): {**row, "number": number} for number, row in enumerate(rows, start=1)}
    read = []

    def pictures():
        for block, place, content in _contents(out, kept):
            read.append(kept[block, place])
            yield Encoded(content, kept[block, place]["id"])

    batches = data.read_files(pictures(), scoring.preprocessing_of(scorer), scorer.chunk, [])
    for name, scores, image in judging.drawn_images(scorer, batches):
        row = {"label": None, **read[int(name) - 1], **scores}
        yield row, image | {"regions": judging.outlined(image["regions"], row["prediction"])}


def _contents(out, places):
    """Block, place and file of each of these places that can be read, block by block."""
    for listed in blocks.listed(out, {block for block, _ in places}):
        for block in listed.to_pylist():
            some = [place for number, place in places if number == block["block"]]
            for place, (content, _) in zip(some, blocks.contents(block, some), strict=True):
                if content is not None:
                    yield block["block"], place, content
