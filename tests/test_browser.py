"""The page of a results folder in a real browser: Chromium, driven by Playwright."""

import csv
import functools
import os
import re
import shutil

import numpy as np
import pytest

from anogan_tf import page as pages
from anogan_tf import report, thresholds

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: the extra `test` has it")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: Debian's package chromium")

HOSTILE = [
    '<img src=x onerror="hacked=1">.png',
    "</script><script>hacked=1</script>.png",
    "=HYPERLINK(1).png",
    'with "quotes", a comma\nand a line.png',
    "{{ 7*7 }} ${hacked=1} \u2028.png",
]
GOOD = np.sort(np.random.default_rng(1).gamma(4.0, 0.2, 99))
THRESHOLD, ALPHA = thresholds.conformal(GOOD, 0.05)
STRICT, STRICT_ALPHA = thresholds.level(GOOD, 0.01)
METRICS = {
    "threshold": THRESHOLD, "threshold_method": "conformal", "alpha": ALPHA, "auroc": 0.9, "n": 40, "run": "runs/parts",
    "strict_threshold": STRICT, "strict_alpha": STRICT_ALPHA, "pixel_threshold": 0.5, "seed": 0,
    "calibration": {"method": "split", "images": 99}, "versions": {"python": "3", "anogan-tf": "1"},
}  # fmt: skip
REGION = {"box": (1, 2, 9, 12), "area": 50, "peak": 0.9, "peak_at": (3, 4)}


def rows(n=40):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 2
    scores = np.round(rng.gamma(4.0, 0.2, n) + 1.2 * labels * rng.random(n), 3)  # overlapping: misses and false alarms
    names = [f"part/{'good' if label == 0 else 'scratch'}/{i:05d}.png" for i, label in enumerate(labels)]
    names[: len(HOSTILE)] = HOSTILE[:n]
    return [
        {
            "id": name, "anomaly_score": float(score), "residual": None, "discrimination": None,
            "p_value": float(thresholds.p_values([score], GOOD)[0]), "prediction": int(score > THRESHOLD),
            "label": int(label), "decision": thresholds.decision(score, THRESHOLD, STRICT), "number": number,
        }
        for number, (name, score, label) in enumerate(zip(names, scores, labels, strict=True), 1)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A results folder of forty pictures, of which the three most anomalous are drawn."""
    rng, results, folder = np.random.default_rng(0), rows(), tmp_path_factory.mktemp("results")
    most = sorted(results, key=lambda row: -row["anomaly_score"])[:3]
    drawn = {
        row["number"]: {
            "image": rng.uniform(-1, 1, (16, 16, 3)),
            "reconstruction": rng.uniform(-1, 1, (16, 16, 3)),
            "anomaly_map": rng.random((16, 16)),
            "size": (60, 90),
            "picture": functools.partial(rng.uniform, -1, 1, (120, 180, 3)),
        }
        for row in most
    }
    regions = [[REGION] if row in most else [] for row in results]
    small = pages.thumbnail(rng.uniform(-1, 1, (16, 16, 3)))
    more = {"thumbnails": lambda row: small, "normal_scores": GOOD.tolist()}
    results = [{name: row[name] for name in row if name != "number"} for row in results]
    report.write(folder, results, regions, drawn, METRICS, 0.5, [("<b>broken</b>.png", "no image")], **more)
    return folder


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser):
    """A function that opens the page of a folder; at the end nothing may have been complained of."""
    contexts, complaints = [], []

    def open_page(folder, width=1200, height=800, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(f"file://{folder}/index.html")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not complaints


def names(page):
    return page.locator("#grid button").evaluate_all("buttons => buttons.map(button => button.title)")


def decisions(page):
    cards = page.locator("#grid button").evaluate_all("all => all.map(card => [card.title, card.className])")
    return {name: kind.removeprefix("card ") for name, kind in cards}


def slide(page, position):
    """Moves the slider, and returns the threshold that the page then tells."""
    page.locator("#slider").evaluate("(it, to) => { it.value = to; it.dispatchEvent(new Event('input')); }", position)
    return float(re.search(r"Threshold (\S+)\.$", page.locator("#threshold").inner_text())[1])


def test_pictures_are_listed_the_most_anomalous_first_with_their_decisions(folder, opened):
    page = opened(folder)
    ordered = sorted(rows(), key=lambda row: -row["anomaly_score"])
    assert names(page) == [row["id"] for row in ordered]
    assert decisions(page) == {row["id"]: row["decision"] for row in ordered}
    assert set(decisions(page).values()) == {"normal", "suspicious", "anomalous"}
    borders = page.locator("#grid button").evaluate_all("all => all.map(card => getComputedStyle(card).borderColor)")
    assert len(set(borders)) == 3


@pytest.mark.parametrize("position", [150, 400, 520, 700, 990])
def test_a_threshold_decides_as_the_package_would_and_tells_its_rate(folder, opened, position):
    page = opened(folder)
    threshold = slide(page, position)
    alpha = float(re.search(r"α = (\S+):", page.locator("#promise").inner_text())[1])
    exceeded = int((threshold < GOOD).sum())
    assert alpha == pytest.approx((exceeded + 1) / 100, rel=0.01)
    assert thresholds.level(GOOD, (exceeded + 1) / 100)[0] == GOOD[threshold >= GOOD].max()
    strict = max(threshold, thresholds.level(GOOD, (exceeded + 1) / 500)[0])
    expected = {row["id"]: thresholds.decision(row["anomaly_score"], threshold, strict) for row in rows()}
    assert decisions(page) == expected
    assert page.locator("#alarms").inner_text() == str(sum(decision != "normal" for decision in expected.values()))
    missed = sum(row["label"] and expected[row["id"]] == "normal" for row in rows())
    assert f"{missed} missed" in page.locator("#outcome").inner_text()
    page.locator("#reset").click()
    assert decisions(page) == {row["id"]: row["decision"] for row in rows()}


def test_the_slider_moves_by_keys_and_says_what_it_stands_for(folder, opened):
    page = opened(folder)
    page.locator("#slider").focus()
    page.keyboard.press("End")
    assert page.locator("#alarms").inner_text() == "0"
    assert "0 pictures look anomalous" in page.locator("#slider").get_attribute("aria-valuetext")


def test_filters_find_misses_false_alarms_folders_and_words(folder, opened):
    page = opened(folder)
    expected = {
        ("outcomes", "miss"): lambda row: row["label"] and row["decision"] == "normal",
        ("outcomes", "false alarm"): lambda row: not row["label"] and row["decision"] != "normal",
        ("decision", "suspicious"): lambda row: row["decision"] == "suspicious",
        ("label", "1"): lambda row: row["label"] == 1,
        ("folder", "/scratch"): lambda row: "/scratch/" in row["id"],
    }
    for (name, value), wanted in expected.items():
        page.locator(f"#{name}").select_option(value)
        found = {row["id"] for row in rows() if wanted(row)}
        assert found
        assert set(names(page)) == found
        assert page.locator("#status").inner_text() == f"{len(found)} of 40 pictures listed"
        page.locator("#clear").click()
    page.keyboard.press("/")
    page.keyboard.type("HYPERLINK")
    assert names(page) == ["=HYPERLINK(1).png"]
    page.locator("#clear").click()
    page.locator("#sort").select_option("name")
    assert names(page) == sorted(row["id"] for row in rows())


def test_misses_are_listed_anew_when_the_threshold_moves(folder, opened):
    page = opened(folder)
    page.locator("#outcomes").select_option("miss")
    threshold = slide(page, 700)
    assert set(names(page)) == {row["id"] for row in rows() if row["label"] and row["anomaly_score"] <= threshold}


def test_a_picture_is_looked_at_by_keys_alone(folder, opened):
    page = opened(folder)
    ordered = [row["id"] for row in sorted(rows(), key=lambda row: -row["anomaly_score"])]
    page.locator("#grid button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#path").inner_text() == " ".join(ordered[1].split())
    loaded = "image => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
    assert page.locator("#picture").evaluate(loaded) == [180, 120]
    assert page.locator("#heat").evaluate(loaded) == [90, 60]
    assert page.locator("#regions path").count() == page.locator("#regions rect").count() == 1
    assert "rows 1–9, columns 2–12" in page.locator("#region-table").inner_text()
    page.keyboard.press("3")
    assert page.locator("#picture").get_attribute("src").startswith("page/difference_")
    assert page.locator("#picture").evaluate(loaded) == [16, 16]
    page.keyboard.press("1")
    page.locator("#fade").fill("0")
    assert page.locator("#heat").evaluate("image => image.style.opacity") == "0"
    page.keyboard.press("o")
    assert page.locator("#regions").is_hidden()
    page.locator("#stage").focus()
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    assert page.locator("#not-drawn").is_visible()
    assert page.locator("#picture").evaluate(loaded) == [16, 16]  # its thumbnail
    page.keyboard.press("Escape")
    assert not page.locator("#viewer").is_visible()
    page.wait_for_function("title => document.activeElement.title === title", arg=ordered[3])  # a dialog closes later


def test_a_picture_zooms_where_one_points_and_is_moved(folder, opened):
    page = opened(folder)
    page.locator("#grid button").first.click()
    where = "() => (({x, y, width}) => [x, y, width])(document.getElementById('layers').getBoundingClientRect())"
    x, y, width = page.evaluate(where)
    page.mouse.move(x + 100, y + 50)
    page.mouse.wheel(0, -500)
    page.wait_for_function("document.getElementById('layers').style.transform.includes('scale(2.')")
    zoomed = page.evaluate(where)
    factor = zoomed[2] / width
    assert zoomed[:2] == pytest.approx([x + 100 - 100 * factor, y + 50 - 50 * factor], abs=1.5)
    page.mouse.down()
    page.mouse.move(x + 130, y + 70)
    page.mouse.up()
    assert page.evaluate(where)[:2] == pytest.approx([zoomed[0] + 30, zoomed[1] + 20], abs=1.5)
    page.locator("#stage").focus()
    page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate(where)[0] == pytest.approx(zoomed[0] + 90, abs=1.5)
    page.keyboard.press("0")
    assert page.evaluate(where) == pytest.approx([x, y, width], abs=0.5)


def test_names_of_files_are_text_and_nothing_else(folder, opened):
    page = opened(folder)
    assert page.evaluate("typeof hacked") == "undefined"
    assert set(HOSTILE) <= set(names(page))
    assert page.locator("details li code").first.inner_text() == "<b>broken</b>.png"
    page.locator("#text").fill("</script>")
    page.locator("#grid button").click()
    assert page.locator("#path").inner_text() == HOSTILE[1]


def test_the_list_is_saved_as_it_is_filtered_and_no_name_is_a_formula(folder, opened, tmp_path):
    page = opened(folder)
    page.locator("#sort").select_option("low")
    page.locator("#decision").select_option("normal")
    listed = names(page)
    with page.expect_download() as download:
        page.locator("#export").click()
    download.value.save_as(tmp_path / "pictures.csv")
    with open(tmp_path / "pictures.csv", newline="", encoding="utf-8") as file:
        saved = list(csv.DictReader(file))
    assert [row["id"].removeprefix("'") for row in saved] == listed
    assert all(row["id"][0] not in "=+-@" for row in saved)
    scores = {row["id"]: row["anomaly_score"] for row in rows()}
    assert [float(row["anomaly_score"]) for row in saved] == [scores[name] for name in listed]


def test_a_path_is_copied(folder, opened):
    page = opened(folder, permissions=["clipboard-read", "clipboard-write"])
    page.locator("#grid button").first.click()
    page.locator("#copy").click()
    page.get_by_text("Copied.").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == max(rows(), key=lambda row: row["anomaly_score"])["id"]


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(1440, 900, "light"), (820, 1100, "dark"), (390, 844, "light")]
)
def test_everybody_can_use_the_page(folder, opened, width, height, scheme):
    page = opened(folder, width, height, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for summary in page.locator("summary").all()[1:]:
        summary.click()
    checked = [axe.Axe().run(page)]
    page.locator("#grid button").first.click()
    assert page.evaluate("document.getElementById('viewer').scrollWidth <= innerWidth")
    checked.append(axe.Axe().run(page))
    found = [violation for result in checked for violation in result.response["violations"]]
    assert not [(violation["id"], violation["nodes"][0]["html"]) for violation in found]


def test_ten_thousand_pictures_open_at_once_and_stay_smooth(opened, tmp_path):
    listed = sorted(({**row, "regions": []} for row in rows(10_000)), key=lambda row: -row["anomaly_score"])
    counts = {"total": 30_000, "anomalous": 0, "suspicious": 0, "normal": 0}
    numbers = [row["number"] for row in listed]
    more = {"counts": counts, "thumbnails": numbers, "normal_scores": GOOD}
    (tmp_path / "index.html").write_text(pages.render(listed, {}, METRICS, **more), encoding="utf-8")
    (tmp_path / "page").mkdir()
    first = tmp_path / pages.thumbnail_name(1)
    first.write_bytes(pages.thumbnail(np.random.default_rng(0).uniform(-1, 1, (160, 160, 3))))
    for number in numbers:
        if number > 1:
            os.link(first, tmp_path / pages.thumbnail_name(number))
    page = opened(tmp_path)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})  # of the processor, whatever else it does

    def milliseconds(work):
        """What the page's own thread takes, with the drawing that follows."""
        before = session.send("Performance.getMetrics")["metrics"]
        work()
        page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
        after = session.send("Performance.getMetrics")["metrics"]
        (taken,) = (b["value"] - a["value"] for a, b in zip(before, after, strict=True) if a["name"] == "TaskDuration")
        return 1000 * taken

    ready = milliseconds(page.reload)
    moved = milliseconds(lambda: slide(page, 300))
    filtered = milliseconds(lambda: page.locator("#text").fill("scratch"))
    print(f"10,000 pictures: open in {ready:.0f} ms, a step of the slider {moved:.0f} ms, a filter {filtered:.0f} ms")
    assert ready < 2000
    assert moved < 500
    assert filtered < 500
    said = page.locator("#filters").inner_text()
    assert "The 10000 most anomalous pictures are here; scores.csv has all 30000." in said
    page.locator("#clear").click()
    before = page.locator("#grid button").count()
    assert before < 500
    for _ in range(5):
        page.mouse.wheel(0, 20_000)
        page.wait_for_timeout(100)
    assert page.locator("#grid button").count() > before
