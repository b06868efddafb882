"""Exports in ONNX are called from node, and in a browser, without Python."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import sync_playwright

from anogan_tf.commands import export

ROOT = Path(__file__).parents[1]
CLIENTS, RUN = ROOT / "clients", ROOT / "weights" / "mnist-8"
PACKAGES = ("onnxruntime-node", "onnxruntime-web", "pngjs", "jpeg-js")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with packages of node, an export, two pictures and the page."""
    pytest.importorskip("tf2onnx")
    pytest.importorskip("onnxruntime")
    if not shutil.which("npm"):
        pytest.skip("needs npm")
    folder = tmp_path_factory.mktemp("clients")
    (folder / "package.json").write_text("{}")
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}  # what it would fetch is for GPUs
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", *PACKAGES]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=300)
    export.run(RUN, folder / "export", format="onnx")
    for number in (0, 4):
        Image.fromarray(golden("images")[number, ..., 0]).save(folder / f"{number}.png")
    shutil.copy(CLIENTS / "index.html", folder)
    return folder


def golden(name):
    return np.load(RUN / "golden.npz")[name]


def test_node_decides_as_python_does(folder):
    command = ["node", str(CLIENTS / "score.mjs"), "export", "0.png", "4.png"]
    found = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=60)
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    np.testing.assert_allclose([row["anomaly_score"] for row in rows], golden("anomaly_score")[[0, 4]], atol=1e-4)
    assert [row["decision"] for row in rows] == ["normal", "anomalous"]


def test_a_browser_decides_as_python_does(folder):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("needs Chromium")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = f"http://127.0.0.1:{server.server_port}/index.html?picture=4.png"
        with sync_playwright() as started:
            browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            opened = browser.new_page()
            opened.goto(page)
            opened.wait_for_function("document.querySelector('#answer').className !== ''", timeout=60_000)
            shown = opened.inner_text("#answer")
            browser.close()
        server.shutdown()
    score = re.match(r"anomalous: score ([\d.]+)", shown)
    assert float(score[1]) == pytest.approx(golden("anomaly_score")[4], abs=1e-4)
