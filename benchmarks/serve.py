"""How does a server fare under load, and with bodies that mean it harm?

    python -m benchmarks.serve [--run mnist-8] [--clients 16] [--seconds 120] [--bodies 500]

A server of a published run in a process of its own, on loopback: clients that send pictures one after the other, then
hostile bodies. Each run is a part of `benchmarks/results/serve.json`.
"""

import base64
import contextlib
import functools
import http.client
import io
import json
import os
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from anogan_tf import published
from benchmarks import measuring
from benchmarks.reliability import FORMATS, damage

FORM = "multipart/form-data; boundary=edge"
TRACE = re.compile(rb'Traceback|File \\?"|\.py\b')
MEGAPIXELS = 10**6


def picture(rng, kind="png", size=(48, 40)):
    """The content of an image file of random smooth pixels."""
    small = np.array([[[rng.randrange(256) for _ in range(3)] for _ in range(4)] for _ in range(4)], np.uint8)
    content = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(
        content, Image.registered_extensions()[f".{kind}"]
    )
    return content.getvalue()


def png(width, height, data, *more):
    """A PNG of 8-bit gray that claims a size: these bytes are its compressed pixels, more chunks come before."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*m) for m in more) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def form(*parts):
    """The body of a form: triples of a name, a file name or None, and a content."""
    body = b""
    for name, filename, content in parts:
        named = "" if filename is None else f'; filename="{filename}"'
        body += f'--edge\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
    return body + b"--edge--\r\n"


def inference(*data, **more):
    """The body of a KServe request."""
    tensor = {"name": "picture", "shape": [len(data)], "datatype": "BYTES", "data": data}
    return json.dumps({"inputs": [tensor | more]}).encode()


@functools.cache
def compressed_zeros():
    """64 MiB in 64 KiB."""
    return zlib.compress(bytes(2**26))


def truncated(rng):
    content = picture(rng, rng.choice(FORMATS))
    return "/score", "image/png", content[: rng.randrange(1, len(content) // 2)]


def damaged(rng):
    kinds = {f"p.{kind}": picture(rng, kind) for kind in FORMATS}
    return "/score", "image/png", damage(kinds[rng.choice(sorted(kinds))], rng, kinds)


def bomb(rng):
    """Few bytes that claim, or hold, many pixels."""
    side = rng.choice((6000, 9500, 20000, 60000, 2**31 - 1))
    bitmap = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, min(side, 2**30), side, 1, 24, 0, 0, 0, 0, 0, 0)
    bombs = (
        png(side, side, compressed_zeros()),
        png(side, 2**20, zlib.compress(b"")),
        png(2**20, side, b"no zlib"),
        bitmap + bytes(100),
        b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",\0\0\0\0\xff\xff\xff\xff\0\x08\x01\0;",
        b"P6 %d %d 255\n" % (side, side),
    )
    return "/map", "image/png", rng.choice(bombs)


def text_bomb(rng):
    """A small picture with a comment of 64 MiB."""
    return "/score", "image/png", png(1, 1, b"broken", (b"zTXt", b"comment\0\0" + compressed_zeros()))


def wrong_type(rng):
    contents = (
        b"",
        b"hello",
        b"<!DOCTYPE html><script>alert(1)</script>",
        b"%PDF-1.7\n",
        b"PK\x03\x04" + bytes(30),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n",
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><svg>&e;</svg>',
        b"\x93NUMPY\x01\0",
        b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        bytes(rng.randrange(256) for _ in range(2000)),
    )
    return rng.choice(("/score", "/map")), rng.choice(("image/png", "text/plain", "", "\xff")), rng.choice(contents)


def markup(rng):
    """Names and texts that a page could run, in forms and addresses."""
    script = "<img src=x onerror=alert(1)>"
    paths = ("/score?map=" + script, f"/v2/models/{script}/infer", f"/v2/models/{script}/card", "/../../etc/passwd")
    bodies = (form((script, script, b"x")), form((script, None, script.encode())), script.encode())
    return urllib.parse.quote(rng.choice(paths), "/?="), FORM, rng.choice(bodies)


def broken_form(rng):
    good = form(("file", "a.png", picture(rng)))
    bodies = (
        good[: rng.randrange(len(good) - 50)],
        b"--edge",
        form(),
        form(("text", None, b"no file")),
        form(*[("file", "a.png", b"x")] * 50),
        form(*[("text", None, b"x")] * 5000),
        form(("n" * 100_000, "a.png", b"x")),
        form(("text", None, bytes(3 * 2**20))),
        b"--edge\r\n" + b"X: y\r\n" * 20_000,
    )
    return (
        "/score",
        rng.choice((FORM, FORM, "multipart/form-data", "multipart/form-data; boundary=")),
        rng.choice(bodies),
    )


def broken_inference(rng):
    good = base64.b64encode(picture(rng)).decode()
    bodies = (
        b"",
        b"[" * 100_000,
        b'{"inputs": ' * 5000,
        b"\xff\xfe{}",
        b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}',
        inference("no base64!"),
        inference(base64.b64encode(b"no picture").decode()),
        inference(good, shape=[2]),
        inference(good, shape=[-1, -1]),
        inference(good, shape=[2**62, 2**62]),
        inference(*["eA=="] * 5000),
        inference(good[:-9]),
        json.dumps({"inputs": [], "outputs": [{"name": "/etc/passwd"}]}).encode(),
    )
    return "/v2/models/{name}/infer", "application/json", rng.choice(bodies)


def large(rng):
    """A hundred megabytes."""
    return rng.choice(("/score", "/map")), rng.choice(("image/png", FORM)), bytes(100 * 10**6)


HOSTILE = {
    function.__name__: function
    for function in (truncated, damaged, bomb, text_bomb, wrong_type, markup, broken_form, broken_inference, large)
}


def fault(status, body):
    """What is wrong with the answer to a hostile body: None for a refusal in one sentence, or a verdict."""
    if TRACE.search(body):
        return "a trace"
    if status == 200:
        return None  # a damaged picture may still be one
    if not 400 <= status < 500 and status != 503:
        return f"status {status}"
    try:
        sentence = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return "no sentence"
    return None if sentence and "\n" not in sentence else "no sentence"


@contextlib.contextmanager
def served(run):
    """The process of a server of a run, and its port; it is told to end, and must."""
    command = [sys.executable, "-m", "anogan_tf", "serve", run, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            yield process, int(re.search(r":(\d+);", line)[1])
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=60)
            sys.stderr.write(errors)
            if process.returncode or "Traceback" in errors:
                raise RuntimeError(f"The server ended with {process.returncode}.")


def post(connection, path, content_type, body):
    """Status and body of the answer."""
    connection.request("POST", path, body, {"Content-Type": content_type.encode("latin-1")})
    answer = connection.getresponse()
    return answer.status, answer.read()


def pictures_of(run):
    """The queries that a published run was checked with, as PNG files."""
    with np.load(published.find(run) / "golden.npz") as golden:
        images = golden["images"]
    contents = []
    for image in images:
        content = io.BytesIO()
        Image.fromarray(np.rint(image).astype(np.uint8).squeeze()).save(content, "png")
        contents.append(content.getvalue())
    return contents


def load(process, port, contents, clients, seconds):
    """Clients that each send one picture after the other for so many seconds."""
    latencies, wrong, memory = [], [], []
    expected = {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number, content in enumerate(contents):
        expected[number] = json.loads(post(connection, "/score", "image/png", content)[1])["anomaly_score"]
    connection.close()
    cpu, begin = cpu_seconds(process), time.monotonic()

    def work(seed):
        rng = random.Random(seed)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < begin + seconds:
            number, start = rng.randrange(len(contents)), time.perf_counter()
            status, body = post(connection, "/score", "image/png", contents[number])
            latencies.append(time.perf_counter() - start)
            if status != 200 or json.loads(body)["anomaly_score"] != expected[number]:
                wrong.append(body.decode())
        connection.close()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(1.0, seconds / 10))
        memory.append(resident_mib(process))
    for thread in threads:
        thread.join()
    quantiles = statistics.quantiles(latencies, n=100)
    fifth = max(1, len(memory) // 5)
    return {
        "clients": clients,
        "seconds": round(time.monotonic() - begin),
        "pictures": len(latencies),
        "pictures_a_second": len(latencies) / (time.monotonic() - begin),
        "errors": len(wrong),
        "milliseconds": {f"p{n}": round(1000 * quantiles[n - 1]) for n in (50, 95, 99)},
        "cpu_milliseconds_a_picture": 1000 * (cpu_seconds(process) - cpu) / len(latencies),
        "memory_mib": {
            "second fifth": statistics.median(memory[fifth : 2 * fifth] or memory),
            "last fifth": statistics.median(memory[-fifth:]),
        },
    }


def attack(process, port, contents, name, bodies, seed=0):
    """Hostile bodies, one after the other; a good picture before and after must get the same verdict."""
    rng = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    before, begin = post(connection, "/score", "image/png", contents[0]), resident_mib(process)
    connection.close()
    statuses, faults, slowest = {}, [], 0.0
    for number in range(bodies):
        kind = list(HOSTILE)[number % len(HOSTILE)]
        path, content_type, body = HOSTILE[kind](rng)
        connection, start = http.client.HTTPConnection("127.0.0.1", port, timeout=60), time.perf_counter()
        status, answer = post(connection, path.format(name=name), content_type, body)
        connection.close()
        slowest = max(slowest, time.perf_counter() - start)
        statuses[str(status)] = statuses.get(str(status), 0) + 1
        if found := fault(status, answer):
            faults.append((kind, found, answer[:200].decode(errors="replace")))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    after = post(connection, "/score", "image/png", contents[0])
    connection.close()
    return {
        "bodies": bodies,
        "statuses": statuses,
        "faults": faults,
        "slowest_seconds": slowest,
        "good picture unchanged": before == after,
        "memory_mib": {"before": begin, "after": resident_mib(process)},
    }


def resident_mib(process):
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def cpu_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = measuring.arguments(__doc__, "serve")
    parser.add_argument("--run", default="mnist-8", help="a published run")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--bodies", type=int, default=500)
    options = parser.parse_args()
    if options.quick:
        options.clients, options.seconds, options.bodies = 4, 3, 2 * len(HOSTILE)
    started_on = measuring.machine()
    contents = pictures_of(options.run)
    with served(options.run) as (process, port):
        figures = {"load": load(process, port, contents, options.clients, options.seconds)}
        figures["hostile"] = attack(process, port, contents, options.run, options.bodies)
    runs = json.loads(options.out.read_text())["runs"] if options.out.exists() else {}
    runs[options.run] = {"machine": started_on, **figures}
    print(measuring.table(["", *runs], list(rows(runs.values()))))
    measuring.write(options.out, "serve", started_on, {"runs": runs})


def rows(runs):
    """Of a table with a column a run."""
    loads, attacks = ([run[part] for run in runs] for part in ("load", "hostile"))
    yield ["pictures judged", *(str(load["pictures"]) for load in loads)]
    yield ["errors, and scores that were others", *(str(load["errors"]) for load in loads)]
    for name in ("p50", "p95", "p99"):
        yield [f"milliseconds to an answer, {name}", *(str(load["milliseconds"][name]) for load in loads)]
    yield ["CPU milliseconds a picture", *(load["cpu_milliseconds_a_picture"] for load in loads)]
    yield ["MiB, second and last fifth", *(", ".join(f"{m:g}" for m in load["memory_mib"].values()) for load in loads)]
    yield ["load of the machine", *(f"{run['machine']['load_average'][0]:.0f}" for run in runs)]
    yield ["hostile bodies", *(str(attack["bodies"]) for attack in attacks)]
    yield ["crashes, traces and answers that are no sentence", *(str(len(attack["faults"])) for attack in attacks)]
    yield ["slowest answer to one, seconds", *(attack["slowest_seconds"] for attack in attacks)]
    yield ["MiB before, after", *(", ".join(str(m) for m in attack["memory_mib"].values()) for attack in attacks)]


if __name__ == "__main__":
    main()
