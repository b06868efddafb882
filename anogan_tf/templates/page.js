"use strict";
{
  // What the report wrote; every name of a file comes from here, and is only ever put in as text.
  const content = JSON.parse(document.getElementById("content").textContent);
  const pictures = content.rows.map((values) => {
    const row = Object.fromEntries(content.columns.map((column, i) => [column, values[i]]));
    const folders = row.id.split(/[/\\]/);
    return { ...row, asScored: row.decision, name: folders.pop(), folder: folders.pop() ?? "" };
  });
  const good = content.normal_scores; // ascending
  const labelled = pictures.some((row) => row.label !== null);
  const DECISIONS = ["normal", "suspicious", "anomalous"];
  const MARKS = { normal: "●", suspicious: "◆", anomalous: "▲" }; // beside the colours
  const CHUNK = 120; // cards that are added at once
  const BINS = 60;
  const FORMULA = /^[=+\-@\t\r]/; // what a spreadsheet would run

  const by = (id) => document.getElementById(id);
  const short = (value) => Number(value.toPrecision(4)).toString();
  const percent = (part) => `${(100 * part).toFixed(1)} %`;
  const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const drawing = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  // Decisions

  let threshold = content.threshold;
  let shown = []; // what passes the filters, in order

  /** How many of the good scores are above a value. */
  function above(value) {
    let [low, high] = [0, good.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (good[middle] > value) high = middle;
      else low = middle + 1;
    }
    return good.length - low;
  }

  /** The threshold of `anomalous` that belongs to one of `suspicious`: that of a rate `stricter` times lower. */
  function strictOf(value) {
    if (value === content.threshold && content.strict !== null) return Math.max(value, content.strict);
    if (!good.length) return value;
    const allowed = Math.floor((above(value) + 1) / content.stricter);
    return Math.max(value, good[good.length - Math.max(allowed, 1)]);
  }

  function decide() {
    const strict = strictOf(threshold);
    for (const row of pictures) {
      const score = row.anomaly_score;
      row.decision = score <= threshold ? "normal" : score > strict ? "anomalous" : "suspicious";
      if (threshold === content.threshold) row.decision = row.asScored;
      const alarm = row.decision !== "normal";
      row.outcome = row.label === null ? "" : alarm === Boolean(row.label) ? "right" : alarm ? "false alarm" : "miss";
    }
  }

  // The histogram, and the slider below it

  const scores = pictures.map((row) => row.anomaly_score);
  const every = [...scores, ...good, content.threshold];
  const lowest = every.reduce((a, b) => Math.min(a, b));
  const highest = every.reduce((a, b) => Math.max(a, b));
  const logarithmic = lowest > 0 && highest > 50 * lowest; // then equal steps are equal factors
  const scaled = (score) => (logarithmic ? Math.log(score) : score);
  const margin = 0.02 * (scaled(highest) - scaled(lowest)) || 1;
  const [left, right] = [scaled(lowest) - margin, scaled(highest) + margin];
  const place = (score) => (scaled(score) - left) / (right - left); // 0 to 1
  const scoreAt = (part) => {
    const value = left + part * (right - left);
    return logarithmic ? Math.exp(value) : value;
  };

  function drawHistogram() {
    const bins = Array.from({ length: BINS }, () => ({ good: 0, normal: 0, suspicious: 0, anomalous: 0 }));
    const binOf = (score) => bins[Math.min(BINS - 1, Math.floor(place(score) * BINS))];
    const kind = labelled ? (row) => (row.label ? "anomalous" : "normal") : (row) => row.decision;
    for (const row of pictures) binOf(row.anomaly_score)[kind(row)] += 1;
    for (const score of good) binOf(score).good += 1;
    const total = (bin) => DECISIONS.reduce((sum, name) => sum + bin[name], 0);
    const tallest = Math.max(1, ...bins.map(total));
    const deepest = Math.max(1, ...bins.map((bin) => bin.good));
    const picture = drawing("svg", { viewBox: "0 0 600 150", preserveAspectRatio: "none", role: "img" });
    picture.setAttribute("aria-label", `Scores from ${short(lowest)} to ${short(highest)}, and the threshold`);
    const bar = (name, i, y, height) =>
      height && picture.append(drawing("rect", { class: `bar-${name}`, x: i * 10 + 0.5, y, width: 9, height }));
    bins.forEach((bin, i) => {
      let y = 100;
      for (const name of DECISIONS) {
        const height = (bin[name] / tallest) * 96;
        bar(name, i, (y -= height), height);
      }
      bar("good", i, 102, (bin.good / deepest) * 46);
    });
    const x = place(threshold) * 600;
    picture.append(drawing("line", { class: "axis", x1: 0, x2: 600, y1: 101, y2: 101 }));
    picture.append(drawing("line", { class: "cut", x1: x, x2: x, y1: 0, y2: 150, "vector-effect": "non-scaling-stroke" }));
    by("histogram").replaceChildren(picture);
  }

  function drawLegend() {
    const names = labelled
      ? [["normal", "labelled normal"], ["anomalous", "labelled anomalous"]]
      : DECISIONS.map((name) => [name, name]);
    const swatches = names.map(([kind, text]) => element("span", { className: `swatch ${kind}`, textContent: text }));
    if (good.length) swatches.push(element("span", { className: "swatch", textContent: "below: good pictures that set the threshold" }));
    if (logarithmic) swatches.push(element("span", { textContent: "logarithmic scale" }));
    by("legend").replaceChildren(...swatches);
  }

  function tell() {
    const count = (test) => pictures.filter(test).length;
    const alarms = count((row) => row.decision !== "normal");
    const least = content.total > pictures.length && alarms === pictures.length ? "at least " : "";
    by("alarms").textContent = least + alarms;
    by("threshold").textContent = `Threshold ${short(threshold)}.`;
    const exceeded = above(threshold);
    by("promise").textContent = good.length
      ? `α = ${((exceeded + 1) / (good.length + 1)).toPrecision(2)}: ${content.promised} ${percent((exceeded + 1) / (good.length + 1))} ` +
        `of new good pictures exceed it, as ${exceeded} of ${good.length} known ones do.`
      : "No scores of good pictures are known here, so nothing tells which α it stands for.";
    const parts = [...DECISIONS].reverse().map((name) => `${count((row) => row.decision === name)} ${name}`);
    if (labelled) {
      const [found, missed] = [count((row) => row.label && row.outcome === "right"), count((row) => row.outcome === "miss")];
      const normal = count((row) => row.label === 0);
      parts.push(`found ${found} of ${found + missed} labelled anomalous, ${missed} missed`);
      parts.push(`${plural(count((row) => row.outcome === "false alarm"), "false alarm")} among ${normal} labelled normal`);
    }
    by("outcome").textContent = `${parts.join(", ")}.`;
    by("slider").setAttribute("aria-valuetext", `${short(threshold)}, ${alarms} pictures look anomalous`);
    by("reset").hidden = threshold === content.threshold;
  }

  function setThreshold(value) {
    threshold = value;
    by("slider").value = Math.round(place(value) * 1000);
    decide();
    drawHistogram();
    tell();
    if (["decision", "outcomes"].some((id) => by(id).value) || by("sort").value === "near") list();
    else recolour();
  }

  // The grid

  const fileOf = (row, name, suffix = "jpg") => `page/${name}_${String(row.number).padStart(3, "0")}.${suffix}`;
  const smooth = (image) => image.classList.toggle("pixelated", Math.max(image.naturalWidth, image.naturalHeight) <= 64);

  const inFolder = (row) => (row.folder ? `${row.folder}/${row.name}` : row.name);

  function card(row, index) {
    const image = row.has_thumbnail
      ? element("img", { loading: "lazy", decoding: "async", alt: "", onload: (event) => smooth(event.target), src: fileOf(row, "thumbnail") })
      : element("div", { className: "blank" });
    const button = element("button", { type: "button", title: row.id }, image, element("span", { textContent: inFolder(row) }), element("span"), element("span"));
    button.dataset.index = index;
    colour(button, row);
    return element("li", {}, button);
  }

  function colour(button, row) {
    const wrong = ["miss", "false alarm"].includes(row.outcome) ? row.outcome : "";
    button.className = `card ${row.decision}`;
    const [decision, outcome] = [...button.children].slice(2);
    decision.className = `is-${row.decision}`;
    decision.textContent = `${MARKS[row.decision]} ${row.decision} ${short(row.anomaly_score)}`;
    outcome.className = wrong && "wrong";
    outcome.textContent = wrong;
    outcome.hidden = !wrong;
  }

  function recolour() {
    for (const button of by("grid").querySelectorAll("button")) colour(button, shown[button.dataset.index]);
  }

  function more() {
    const from = by("grid").children.length;
    const next = shown.slice(from, from + CHUNK).map((row, i) => card(row, from + i));
    by("grid").append(...next);
    by("end").textContent = shown.length ? "" : "No picture passes these filters.";
  }

  const ORDERS = {
    high: (a, b) => b.anomaly_score - a.anomaly_score,
    low: (a, b) => a.anomaly_score - b.anomaly_score,
    near: (a, b) => Math.abs(a.anomaly_score - threshold) - Math.abs(b.anomaly_score - threshold),
    name: (a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0),
  };

  function list() {
    const [text, decision, label, outcome, folder] = ["text", "decision", "label", "outcomes", "folder"].map((id) => by(id).value);
    const wanted = text.toLowerCase();
    shown = pictures.filter(
      (row) =>
        row.id.toLowerCase().includes(wanted) &&
        (!decision || row.decision === decision) &&
        (!label || String(row.label) === label) &&
        (!outcome || row.outcome === outcome) &&
        (!folder || row.folder === folder.slice(1)),
    );
    shown.sort(ORDERS[by("sort").value]);
    by("grid").replaceChildren();
    observer.unobserve(by("end"));
    observer.observe(by("end"));
    by("status").textContent = `${shown.length} of ${plural(pictures.length, "picture")} listed`;
    more();
  }

  /** The arrow keys go from card to card, up and down by a row. */
  function walk(event) {
    const cards = [...by("grid").querySelectorAll("button")];
    const here = cards.indexOf(document.activeElement);
    if (here < 0) return;
    const columns = getComputedStyle(by("grid")).gridTemplateColumns.split(" ").length;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns };
    if (event.key === "End") more();
    const target = event.key === "Home" ? cards[0] : event.key === "End" ? by("grid").lastChild.firstChild : cards[here + steps[event.key]];
    if (!target) return;
    event.preventDefault();
    target.focus();
  }

  // One picture, large

  let current = 0;
  let view = { scale: 1, x: 0, y: 0 };

  function open(index) {
    current = index;
    const row = shown[index];
    const drawn = content.drawn[row.number];
    const [height, width] = drawn ? drawn.size : [1, 1];
    by("layers").style.setProperty("--ratio", width / height);
    for (const id of ["views", "fade", "outlines"]) by(id).disabled = !drawn;
    by("not-drawn").hidden = Boolean(drawn);
    by("viewer-name").textContent = inFolder(row);
    by("path").firstChild.textContent = row.id;
    by("copied").textContent = "";
    by("previous").disabled = index === 0;
    by("next").disabled = index === shown.length - 1;
    const label = row.label === null ? "" : `, labelled ${row.label ? "anomalous" : "normal"}`;
    const p = row.p_value === null ? "" : `, p = ${row.p_value.toPrecision(3)}`;
    by("verdict").replaceChildren(
      element("span", { className: `is-${row.decision}`, textContent: `${MARKS[row.decision]} ${row.decision}` }),
      `${label}${row.outcome && row.outcome !== "right" ? ` (${row.outcome})` : ""}: score ${short(row.anomaly_score)}${p}, ${index + 1} of ${shown.length}`,
    );
    const links = { "map in the picture's own pixels": `anomaly_map_${String(row.number).padStart(3, "0")}.tiff`, "all panels in one picture": `test_image_${String(row.number).padStart(3, "0")}.png` };
    by("files").replaceChildren(...(drawn ? Object.entries(links).map(([text, href]) => element("a", { textContent: text, href, className: "file" })) : []));
    if (drawn) by("files").firstChild.after(" · ");
    drawRegions(row, drawn, width, height);
    showLayer();
    move({ scale: 1, x: 0, y: 0 });
    if (!by("viewer").open) by("viewer").showModal();
  }

  function drawRegions(row, drawn, width, height) {
    const marks = row.regions.map(([top, from, bottom, to]) => {
      const [x, y] = [(from / width) * 1000, (top / height) * 1000];
      return drawing("rect", { x, y, width: ((to - from + 1) / width) * 1000, height: ((bottom - top + 1) / height) * 1000 });
    });
    if (drawn?.outline) marks.push(drawing("path", { d: drawn.outline }));
    by("regions").replaceChildren(...(drawn ? marks : []));
    const rows = row.regions.map(([top, from, bottom, to, area, peak, forced]) =>
      element("tr", {}, element("td", { textContent: `rows ${top}–${bottom}, columns ${from}–${to}` }),
        element("td", { textContent: `${plural(area, "pixel")}, peak ${short(peak)}${forced ? ", below the pixel threshold" : ""}` })),
    );
    const head = element("tr", {}, element("th", { textContent: "Region", scope: "col" }), element("th", { textContent: "Size", scope: "col" }));
    by("region-table").replaceChildren(...(rows.length ? [head, ...rows] : []));
  }

  function showLayer() {
    const row = shown[current];
    const name = content.drawn[row.number] ? document.querySelector("[name=view]:checked").value : "thumbnail";
    const [picture, heat] = [by("picture"), by("heat")];
    picture.onload = () => {
      smooth(picture);
      if (name === "thumbnail") by("layers").style.setProperty("--ratio", picture.naturalWidth / picture.naturalHeight);
    };
    picture.hidden = name === "thumbnail" && !row.has_thumbnail;
    picture.alt = `${name} of ${row.name}`;
    if (!picture.hidden) picture.src = fileOf(row, name);
    heat.hidden = name !== "picture";
    if (!heat.hidden) heat.src = fileOf(row, "heat", "webp");
    heat.style.opacity = by("fade").value / 100;
    by("regions").style.display = by("outlines").checked ? "" : "none";
  }

  function move(to) {
    view = to;
    by("layers").style.transform = `translate(${to.x}px, ${to.y}px) scale(${to.scale})`;
  }

  /** Zooms so that what is at a point of the stage, its middle if none is given, stays there. */
  function zoom(factor, event) {
    const scale = Math.min(20, Math.max(1, view.scale * factor));
    if (scale === 1) return move({ scale: 1, x: 0, y: 0 });
    const box = by("stage").getBoundingClientRect();
    const [x, y] = event ? [event.clientX - box.left, event.clientY - box.top] : [box.width / 2, box.height / 2];
    const [homeX, homeY] = [by("layers").offsetLeft, by("layers").offsetTop];
    const keep = (at, home, offset) => at - home - ((at - home - offset) * scale) / view.scale;
    return move({ scale, x: keep(x, homeX, view.x), y: keep(y, homeY, view.y) });
  }

  function step(distance) {
    if (shown[current + distance]) open(current + distance);
  }

  function keysOfViewer(event) {
    const pans = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    const inRange = event.target.type === "range" || event.target.type === "radio";
    if (event.ctrlKey || event.metaKey || event.altKey || (inRange && event.key.startsWith("Arrow"))) return;
    const views = { 1: "picture", 2: "reconstruction", 3: "difference" };
    if (event.shiftKey && event.key in pans) move({ ...view, x: view.x + pans[event.key][0], y: view.y + pans[event.key][1] });
    else if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (event.key === "+" || event.key === "=") zoom(1.4);
    else if (event.key === "-") zoom(1 / 1.4);
    else if (event.key === "0") zoom(0);
    else if (event.key === "o" && !by("outlines").disabled) by("outlines").click();
    else if (event.key in views && !by("views").disabled) document.querySelector(`[name=view][value=${views[event.key]}]`).click();
    else return;
    event.preventDefault();
  }

  async function copyPath() {
    const path = shown[current].id;
    try {
      await navigator.clipboard.writeText(path);
    } catch {
      getSelection().selectAllChildren(by("path"));
      document.execCommand("copy");
    }
    by("copied").textContent = "Copied.";
  }

  // The list as a file

  function cell(value) {
    const text = value === null ? "" : typeof value === "string" && FORMULA.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function save() {
    const columns = ["id", "anomaly_score", "p_value", "decision", "label"];
    const lines = [columns, ...shown.map((row) => columns.map((name) => row[name]))];
    const file = new Blob([lines.map((line) => line.map(cell).join(",")).join("\r\n"), "\r\n"], { type: "text/csv" });
    const link = element("a", { href: URL.createObjectURL(file), download: "pictures.csv" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // What happens when

  const folders = [...new Set(pictures.map((row) => row.folder))].sort();
  for (const folder of folders) by("folder").append(element("option", { value: `/${folder}`, textContent: folder || "(none)" }));
  document.querySelectorAll("[data-folders]").forEach((label) => (label.hidden = folders.length < 2 || folders.length > 500));
  document.querySelectorAll("[data-labelled]").forEach((label) => (label.hidden = !labelled));

  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("filters").addEventListener("input", list);
  by("clear").addEventListener("click", () => (by("filters").reset(), list()));
  by("export").addEventListener("click", save);
  by("slider").addEventListener("input", (event) => setThreshold(scoreAt(event.target.value / 1000)));
  by("reset").addEventListener("click", () => (setThreshold(content.threshold), by("slider").focus()));
  by("grid").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) open(Number(button.dataset.index));
  });
  by("grid").addEventListener("keydown", walk);
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || by("viewer").open || event.target.matches("input, select")) return;
    event.preventDefault();
    by("text").focus();
  });
  const observer = new IntersectionObserver(
    (entries) => {
      if (!entries.at(-1).isIntersecting || by("grid").children.length >= shown.length) return;
      more();
      observer.unobserve(by("end"));
      observer.observe(by("end")); // it may still be in sight, which is told once only
    },
    { rootMargin: "800px" },
  );

  by("viewer").addEventListener("keydown", keysOfViewer);
  by("viewer").addEventListener("close", () => {
    while (by("grid").children.length <= current) more();
    by("grid").children[current].firstChild.focus();
  });
  by("close").addEventListener("click", () => by("viewer").close());
  by("previous").addEventListener("click", () => step(-1));
  by("next").addEventListener("click", () => step(1));
  for (const id of ["views", "fade", "outlines"]) by(id).addEventListener("input", showLayer);
  by("zoom-in").addEventListener("click", () => zoom(1.4));
  by("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
  by("zoom-reset").addEventListener("click", () => zoom(0));
  by("copy").addEventListener("click", copyPath);
  const stage = by("stage");
  stage.addEventListener("wheel", (event) => (event.preventDefault(), zoom(1.0015 ** -event.deltaY, event)), { passive: false });
  stage.addEventListener("dblclick", (event) => zoom(view.scale > 1 ? 0 : 3, event));
  stage.addEventListener("pointerdown", (event) => stage.setPointerCapture(event.pointerId));
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons) move({ ...view, x: view.x + event.movementX, y: view.y + event.movementY });
  });

  drawLegend();
  setThreshold(content.threshold);
  list();
}
