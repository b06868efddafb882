"""Serves a run over HTTP."""

import contextlib
import socket
from pathlib import Path

from anogan_tf import formats
from anogan_tf.commands.settings import at_rate
from anogan_tf.detector import ExportDetector, RunDetector
from anogan_tf.runs import load_run

BACKLOG = 128


def run(
    run: str | Path,
    *,
    host: str,
    port: int,
    alpha: float | None,
    threshold: float | None,
    chunk: int | None,
    max_body: float,
    max_pixels: float,
    queue: int,
    timeout: float,
) -> None:
    """Serves a run, or an export, until it is interrupted, and then finishes what it has begun.

    Args:
        run: The folder of a run or of an export, or the name of a published run.
        host: The address to listen at.
        port: Likewise; 0 for any that is free.
        alpha: Another rate of false alarms than the run's; None for that.
        threshold: A number in place of the calibrated threshold; None for that.
        chunk: Pictures scored at once, in place of the run's own number; None for that.
        max_body: MiB of a request's body.
        max_pixels: Megapixels of a picture.
        queue: Requests that are worked on or wait.
        timeout: Seconds to receive a request, and to answer it.

    Raises:
        ValueError: Without FastAPI and uvicorn, or for a run without thresholds; if an export is to have another α,
            threshold or chunk than it has.
        OSError: If the address is not free.
    """
    try:
        import uvicorn

        from anogan_tf import server
    except ImportError as error:
        raise ValueError(f"A server needs FastAPI and uvicorn ({error}): pip install anogan-tf[serve].") from None
    with _listening(host, port) as listener:
        detector = _detector(run, alpha, threshold, chunk)
        detector.warm_up()
        limits = server.Limits(int(max_body * 2**20), int(max_pixels * 1e6), queue, timeout)
        config = uvicorn.Config(
            server.app(detector, limits),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(timeout) + 1,
            server_header=False,
        )
        address = f"[{host}]" if ":" in host else host
        print(f"Serving {detector.name} at http://{address}:{listener.getsockname()[1]}; Ctrl-C ends it.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
    print("Stopped.")


def _detector(run, alpha, threshold, chunk):
    if not (Path(run) / formats.DESCRIPTION).is_file():
        return RunDetector(run, scorer=at_rate(load_run(run, chunk=chunk), alpha, threshold), threshold=threshold)
    given = {"--alpha": alpha, "--threshold": threshold, "--chunk": chunk}
    others = ", ".join(name for name, value in given.items() if value is not None)
    if others:
        raise ValueError(f"{run} is an export, whose thresholds are its own: serve its run for {others}.")
    return ExportDetector(run)


def _listening(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise OSError(f"Cannot listen at {host}, port {port}: {error.strerror or error}.") from None
