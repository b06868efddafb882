import base64
import csv
import io
import json
import random
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner
from fastapi.testclient import TestClient
from PIL import Image

import anogan_tf as agt
from anogan_tf import server
from anogan_tf.commands import score
from anogan_tf.commands.cli import main
from anogan_tf.detector import RunDetector, Verdict, fingerprint
from benchmarks import serve
from tests.conftest import small_gan

SMALL = server.Limits(body=200_000, pixels=1_000_000, queue=4, seconds=20.0)


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def calibrated(kind, images):
    """A small scorer of each kind: by a search, by an encoder, by local features, by tiles."""
    gan = small_gan(image_shape=(16, 16, 1) if kind == "neighbours" else (8, 8, 1))
    scorer = {
        "anogan": lambda: agt.AnoGAN(gan, steps=3, chunk=4),
        "fanogan": lambda: agt.FAnoGAN(gan, chunk=4),
        "neighbours": lambda: agt.LocalNeighbours(agt.AnoGAN(gan, steps=3, chunk=4, score="paper"), factor=1),
        "tiles": lambda: agt.Patched(agt.AnoGAN(gan, steps=3, chunk=4)),
    }[kind]()
    size = 8 if kind in ("anogan", "fanogan") else 16
    images = np.repeat(np.repeat(images, size // 8, axis=1), size // 8, axis=2)
    scorer.fit_reference(images[:20])
    scorer.calibrate(images[20:])
    return scorer


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of pictures of several sizes, formats and depths."""
    folder, rng = tmp_path_factory.mktemp("photos"), random.Random(3)
    for number, (kind, size) in enumerate([("png", (20, 16)), ("jpg", (16, 22))]):
        (folder / f"{number}.{kind}").write_bytes(serve.picture(rng, kind, size))
    Image.fromarray(np.random.default_rng(0).integers(0, 65535, (17, 16), np.uint16)).save(folder / "2.tif")
    return folder


@pytest.fixture(scope="module", params=["anogan", "fanogan", "neighbours", "tiles"])
def folder_of_run(request, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / request.param
    agt.save_run(folder, calibrated(request.param, images))
    return folder


@pytest.fixture(scope="module")
def plain(images, tmp_path_factory):
    """The detector of a run by one pass."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    agt.save_run(folder, calibrated("fanogan", images))
    (folder / "README.md").write_text("# Plain\n")
    return RunDetector(folder)


@pytest.fixture(scope="module")
def client(plain):
    with TestClient(server.app(plain, SMALL), raise_server_exceptions=False) as client:
        yield client


def test_a_server_says_what_the_command_line_says_bit_by_bit(folder_of_run, photos, tmp_path, monkeypatch):
    """Whatever scores, sent as a body, as a form, or several in one request of the KServe protocol; all at once."""
    scorer = agt.load_run(folder_of_run)
    monkeypatch.setattr(score, "load_run", lambda _: scorer)  # as each one traces its graphs anew
    run("score", folder_of_run, photos, "--out", tmp_path / "out")
    with open(tmp_path / "out" / "scores.csv", newline="") as file:
        rows = {row["id"].rpartition("/")[2]: row for row in csv.DictReader(file)}
    regions = {
        name.rpartition("/")[2]: found
        for name, found in json.loads((tmp_path / "out" / "regions.json").read_text()).items()
    }
    detector = RunDetector(folder_of_run, scorer=scorer)
    files = sorted(photos.iterdir())
    with TestClient(server.app(detector)) as client, ThreadPoolExecutor() as pool:
        bodies = [pool.submit(client.post, "/score?map=true", content=file.read_bytes()) for file in files]
        forms = [pool.submit(client.post, "/score", files={"file": file.read_bytes()}) for file in files]
        bodies, forms = ([future.result().json() for future in futures] for futures in (bodies, forms))
        data = [base64.b64encode(file.read_bytes()).decode() for file in files]
        asked = {"id": "7", "inputs": [{"name": "picture", "shape": [3], "datatype": "BYTES", "data": data}]}
        answer = client.post(f"/v2/models/{detector.name}/infer", json=asked).json()
    assert {row["decision"] for row in rows.values()} <= {"normal", "suspicious", "anomalous"}
    columns = {output["name"]: output["data"] for output in answer["outputs"]}
    for number, file in enumerate(files):
        row, body, form = rows[file.name], bodies[number], forms[number]
        for name in ("anomaly_score", "p_value", "prediction", "decision"):
            assert row[name] == str(body[name]) == str(form[name]) == str(columns[name][number])
        assert body["regions"] == regions.get(file.name, [])
        assert (form["regions"] is None) == scorer.maps_need_z
    assert (answer["id"], answer["model_version"]) == ("7", fingerprint(folder_of_run))


def test_the_map_is_that_of_the_command_line(plain, client, photos, tmp_path, monkeypatch):
    file = photos / "0.png"
    monkeypatch.setattr(score, "load_run", lambda _: plain._scorer)
    run("score", plain.folder, file, "--out", tmp_path)
    expected = np.asarray(Image.open(tmp_path / "anomaly_map_001.tiff"))
    answer = client.post("/map", content=file.read_bytes())
    levels = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert levels.shape == (16, 20)
    white = float(answer.headers["map-white"])
    np.testing.assert_allclose(levels / 65535 * white, expected, atol=white / 65535)
    assert float(answer.headers["map-threshold"]) == plain.thresholds["pixel"]
    body = client.post("/score?map=true", content=file.read_bytes()).json()
    assert base64.b64decode(body["map"]["png"]) == answer.content
    assert body["map"]["white"] == white


def test_what_is_served_is_told(client, plain):
    answer = client.post("/score", content=serve.picture(random.Random(0))).json()
    assert (answer["model"], answer["fingerprint"]) == ("plain", plain.fingerprint)
    assert answer["thresholds"] == plain.thresholds
    assert answer["thresholds"]["suspicious"] == plain._scorer.calibration.threshold
    assert (answer["height"], answer["width"]) == (40, 48)
    assert client.get("/v2/health/live").json() == {"live": True}
    assert [client.head(f"/v2/health/{name}").status_code for name in ("live", "ready")] == [200, 200]
    assert client.get("/v2/health/ready").json() == client.get("/v2/models/plain/ready").json() == {"ready": True}
    described = client.get("/v2/models/plain").json()
    assert described["versions"] == [plain.fingerprint]
    card = client.get("/v2/models/plain/card")
    assert (card.text, card.headers["content-type"]) == ("# Plain\n", "text/markdown; charset=utf-8")
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]["/score"]["post"]["requestBody"]["content"]) == {"image/*", "multipart/form-data"}
    assert schema["components"]["schemas"]["Answer"]["properties"]["p_value"]["description"]
    page = client.get("/").text
    assert "POST /v2/models/{name}/infer" in page
    assert not re.search(r"(src|href)=.?(https?:|//)", page)  # it works where nothing else can be reached
    names = [output["name"] for output in described["outputs"]]
    asked = {
        "inputs": [{"shape": [1], "data": [base64.b64encode(serve.picture(random.Random(0))).decode()]}],
        "outputs": [{"name": name} for name in names],
    }
    outputs = client.post("/v2/models/plain/infer", json=asked).json()["outputs"]
    assert [output["name"] for output in outputs] == names
    assert json.loads(outputs[names.index("regions")]["data"][0]) is not None


@pytest.mark.parametrize("kind", [name for name in serve.HOSTILE if name != "large"])
def test_hostile_bodies_are_refused_in_a_sentence(kind, client):
    good = serve.picture(random.Random(1))
    before = client.post("/score", content=good).json()
    rng = random.Random(kind)
    for _ in range(8):
        path, content_type, body = serve.HOSTILE[kind](rng)
        headers = {"content-type": content_type.encode("latin-1")}
        answer = client.post(path.format(name="plain"), content=body, headers=headers)
        assert serve.fault(answer.status_code, answer.content) is None, (path, body[:100], answer.text)
    assert client.post("/score", content=good).json() == before


def test_a_trace_and_a_silent_failure_are_faults():
    assert serve.fault(400, b'{"error": "Traceback (most recent call last)"}')
    assert serve.fault(500, b'{"error": "no"}')
    assert serve.fault(400, b"<html>")
    assert serve.fault(400, b'{"error": ""}')


def test_of_several_pictures_it_is_told_which_is_none(client, plain):
    good = serve.picture(random.Random(0))
    data = [base64.b64encode(content).decode() for content in (good, b"words", good)]
    tensor = {"name": "picture", "shape": [3], "datatype": "BYTES", "data": data}
    answer = client.post("/v2/models/plain/infer", json={"inputs": [tensor]})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Picture 2 of 3. The picture: not a readable image")
    answer = client.post("/v2/models/plain/infer", json={"inputs": [tensor | {"name": "image"}]})
    assert (answer.status_code, answer.json()["error"]) == (400, "inputs.0.name: Input should be 'picture'.")


def test_what_cannot_be_asked_for_is_refused(client, photos):
    answer = client.post("/score?alpha=0.5", content=next(photos.iterdir()).read_bytes())
    assert answer.status_code == 400
    assert "There is no alpha to ask for" in answer.json()["error"]


@pytest.mark.parametrize("content_type", ["image/png", "multipart/form-data; boundary=edge"])
def test_a_body_that_is_too_large_is_refused(client, content_type):
    answer = client.post("/score", content=iter([b"x" * 50_000] * 5), headers={"content-type": content_type})
    assert answer.status_code == 413
    assert answer.json() == {"error": "The body is larger than the 200000 bytes that are taken."}


def test_pictures_with_too_many_pixels_are_refused_by_their_header(client):
    answer = client.post("/score", content=serve.png(1001, 1000, b"never looked at"))
    assert answer.status_code == 413
    assert answer.json() == {"error": "The picture: of 1001×1000 pixels, and at most 1000000 are taken."}
    assert client.post("/score", content=serve.png(30000, 30000, b"")).status_code == 413


def test_formats_that_files_are_not_read_in_are_refused_before_they_are_run(client):
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    answer = client.post("/score", content=program)
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "The picture: EPS is not read; save it as PNG or JPEG.",
    )


class Slow:
    """A detector that judges once it may."""

    name, fingerprint, chunk, card = "slow", "0", 2, None
    thresholds = {"suspicious": 1.0, "anomalous": 1.0, "pixel": 1.0}  # noqa: RUF012

    def __init__(self):
        self.may, self.begun = threading.Event(), threading.Event()

    def read(self, picture):
        return {}

    def judge(self, rows, *, mapped=False):
        self.begun.set()
        assert self.may.wait(20)
        return [Verdict(0.0, 1.0, 0, "normal", (1, 1)) for _ in rows]

    def warm_up(self):
        raise NotImplementedError


@pytest.mark.parametrize(("seconds", "sentence"), [(20.0, "Too many requests wait"), (0.2, "no answer within 0.2 s")])
def test_who_would_wait_too_long_is_told_to_come_again(seconds, sentence):
    """As too many wait already, or as it took too long; then it works again."""
    slow = Slow()
    with (
        TestClient(server.app(slow, server.Limits(queue=2, seconds=seconds))) as client,
        ThreadPoolExecutor() as pool,
    ):
        waiting = [pool.submit(client.post, "/score", content=b"x") for _ in range(2)]
        assert slow.begun.wait(10)
        while (answer := client.post("/score", content=b"x")).status_code == 200:
            pass
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert sentence in answer.json()["error"] or "Too many" in answer.json()["error"]
        if seconds < 1:
            assert {future.result().status_code for future in waiting} == {503}
        slow.may.set()
        assert {future.result().status_code for future in waiting} <= {200, 503}
        assert client.post("/score", content=b"x").status_code == 200


def test_an_unforeseen_failure_shows_nothing_of_itself(monkeypatch):
    slow = Slow()
    slow.judge = lambda rows, mapped: 1 / 0
    with TestClient(server.app(slow), raise_server_exceptions=False) as client:
        answer = client.post("/score", content=b"x")
    assert answer.status_code == 500
    assert answer.json() == {"error": "The picture could not be judged; the server has written down why."}


def test_the_command_serves_at_a_free_port_until_it_is_told_to_end(plain):
    command = [sys.executable, "-m", "anogan_tf", "serve", str(plain.folder), "--port", "0", "--alpha", "0.3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        address = re.match(r"Serving plain at (http://127\.0\.0\.1:\d+);", process.stdout.readline())[1]
        with urllib.request.urlopen(f"{address}/score", serve.picture(random.Random(0))) as answer:
            threshold = json.load(answer)["thresholds"]["suspicious"]
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "Stopped.\n")
    assert "Traceback" not in errors
    assert threshold == plain._scorer.calibration.at(0.3).threshold != plain.thresholds["suspicious"]
