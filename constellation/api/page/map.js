// The map of taste: a point for each bucket of the codebook, larger with its patterns, coloured by their success. By
// pointer and by arrow keys; a table says the same.

import { digits, element, shape, table, whole } from "./text.js";

const EDGE = 26, STEPS = 7, REACH = 28, COUNTRY_APART = 62, COUNTRIES = 14, ROWS = 20;

export class TasteMap {
  constructor({ box, said, legend, rows, about }) {
    Object.assign(this, { box, said, legend, rows, about });
    this.svg = shape("svg", { "aria-hidden": "true" });
    this.tip = element("div", { class: "tip", hidden: "hidden" });
    this.wait = element("p", { class: "wait" }, "The map is being drawn.");
    box.append(this.svg, this.tip, this.wait);
    this.map = this.taste = this.chosen = null;
    this.points = [];
    box.addEventListener("pointermove", (event) => this.point(event));
    box.addEventListener("pointerdown", (event) => this.point(event));
    box.addEventListener("pointerleave", () => this.choose(null));
    box.addEventListener("blur", () => this.choose(null));
    box.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(box);
  }

  setMap(map) { this.map = map; this.draw(); }

  setTaste(taste) { this.taste = taste; this.draw(); }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.box, { map, taste } = this;
    if (!width || !map || !taste || map.codebook_version !== taste.codebook_version) return;
    this.wait.hidden = taste.numbers.length > 0;
    if (!taste.numbers.length) this.wait.textContent = taste.devices_min > 1
      ? `No group of patterns has ${taste.devices_min} households yet; smaller ones are not shown.`
      : "No patterns yet: the sky fills as TVs sync.";
    const places = map.x.map((x, i) => [EDGE + x * (width - 2 * EDGE), height - EDGE - map.y[i] * (height - 2 * EDGE)]);
    const most = Math.max(...taste.patterns, 1), scale = Math.min(width, height) / 46;
    const sorted = [...taste.success].sort((a, b) => a - b), at = (share) => sorted[Math.floor(share * (sorted.length - 1))] ?? 0;
    this.low = at(0.03); this.high = Math.max(at(0.97), this.low + 0.01);
    this.points = taste.numbers.map((bucket, i) => ({
      bucket, x: places[bucket][0], y: places[bucket][1], patterns: taste.patterns[i], devices: taste.devices[i],
      success: taste.success[i], size: 1.6 + Math.sqrt(taste.patterns[i] / most) * scale,
      step: Math.max(0, Math.min(STEPS - 1, Math.floor(((taste.success[i] - this.low) / (this.high - this.low)) * STEPS))),
    })).sort((a, b) => b.size - a.size);
    this.by = new Map(this.points.map((point) => [point.bucket, point]));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.ring = shape("circle", { class: "chosen", r: 0 });
    this.svg.replaceChildren(
      shape("path", { class: "threads", d: this.threads() }),
      shape("g", {}, ...places.filter((_, i) => !this.by.has(i)).map(([x, y]) => shape("circle", { class: "empty", cx: x.toFixed(1), cy: y.toFixed(1), r: 1 }))),
      shape("g", {}, ...this.points.map((point) => circle(point, "halo", 2.1))),
      shape("g", {}, ...this.points.map((point) => circle(point, "dot", 1))),
      shape("g", {}, ...this.countries(width, height)),
      this.ring,
    );
    this.choose(this.chosen, false);
    this.explain(most, scale);
  }

  /** From each point to the one that is nearest in all dimensions, not only in the two that paper has. */
  threads() {
    return this.points.map((point) => [point, this.by.get(this.map.nearest[point.bucket])])
      .filter(([, other]) => other).map(([a, b]) => `M${a.x.toFixed(1)} ${a.y.toFixed(1)}L${b.x.toFixed(1)} ${b.y.toFixed(1)}`).join("");
  }

  /** The name of a genre where it is densest, as long as there is room. */
  countries(width, height) {
    const of = new Map();
    for (const point of this.points) {
      const genre = this.map.genres[point.bucket];
      if (genre) of.set(genre, [...(of.get(genre) ?? []), point]);
    }
    const near = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) < 70;
    const centres = [...of].filter(([, points]) => points.length >= 4).map(([genre, points]) => {
      const crowd = points.map((point) => points.filter((other) => near(point, other)));
      const densest = crowd.reduce((best, each) => (each.length > best.length ? each : best));
      const mean = (axis) => densest.reduce((sum, point) => sum + point[axis], 0) / densest.length;
      return { genre, x: mean("x"), y: mean("y"), weight: densest.length };
    }).sort((a, b) => b.weight - a.weight);
    const shown = [];
    for (const centre of centres) {
      const half = centre.genre.length * 5.6;
      const fits = centre.x - half > 4 && centre.x + half < width - 4 && centre.y > 16 && centre.y < height - 8;
      const free = shown.every((other) => Math.abs(other.y - centre.y) > 22 || Math.abs(other.x - centre.x) > half + other.half + COUNTRY_APART / 4);
      if (fits && free && shown.length < COUNTRIES) shown.push({ ...centre, half });
    }
    return shown.map(({ genre, x, y }) => shape("text", { class: "country", x: x.toFixed(1), y: y.toFixed(1) }, genre));
  }

  explain(most, scale) {
    const ramp = shape("svg", { width: 126, height: 10, "aria-hidden": "true" }, ...Array.from({ length: STEPS }, (_, i) => shape("rect", { class: `s${i}`, x: i * 18, width: 18, height: 10 })));
    const big = 1.6 + scale, sizes = shape("svg", { width: Math.ceil(2 * big + 14), height: Math.ceil(2 * big), "aria-hidden": "true" },
      shape("circle", { class: "s3", cx: 4, cy: big, r: 2 }), shape("circle", { class: "s3", cx: 12 + big, cy: big, r: big - 1 }));
    const { taste } = this, share = taste.devices_min > 1 ? ` · only groups of ${taste.devices_min} households or more` : "";
    this.legend.replaceChildren(
      element("span", {}, `mean success ${this.low.toFixed(2)}`, ramp, this.high.toFixed(2)),
      element("span", {}, "1", sizes, `${whole(most)} patterns`),
      element("span", {}, `${whole(taste.numbers.length)} of ${whole(this.map.x.length)} groups${share}`),
    );
    const heads = [["nearest titles", "text wide"], ["genre", "text"], ["patterns"], ["households"], ["mean success"]];
    this.rows.replaceChildren(table(heads, this.points.slice(0, ROWS).map((point) => [
      this.name(point, ", "), this.map.genres[point.bucket] || "–", whole(point.patterns), whole(point.devices), point.success.toFixed(2)])));
  }

  name(point, between) { return this.map.titles[point.bucket].join(between) || `group ${point.bucket}`; }

  point(event) {
    const { left, top } = this.box.getBoundingClientRect(), x = event.clientX - left, y = event.clientY - top;
    let best = null, distance = REACH;
    for (const point of this.points) {
      const away = Math.max(0, Math.hypot(point.x - x, point.y - y) - point.size);
      if (away < distance || (away === distance && best && point.size < best.size)) [best, distance] = [point, away];
    }
    this.choose(best?.bucket ?? null, false);
  }

  key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Escape") return this.choose(null);
    if (!this.points.length || (!way && event.key !== "Home")) return;
    event.preventDefault();
    const from = this.by.get(this.chosen);
    if (!from || !way) return this.choose(this.points[0].bucket);
    let best = from, cost = Infinity;
    for (const point of this.points) {
      const [x, y] = [point.x - from.x, point.y - from.y], along = x * way[0] + y * way[1], across = Math.abs(x * way[1] + y * way[0]);
      if (along > 0.5 && along + 2.5 * across < cost) [best, cost] = [point, along + 2.5 * across];
    }
    this.choose(best.bucket);
  }

  choose(bucket, say = true) {
    this.chosen = bucket;
    const point = this.by?.get(bucket);
    this.tip.hidden = !point;
    if (!point) { this.ring?.setAttribute("r", 0); return; }
    for (const [name, value] of [["cx", point.x], ["cy", point.y], ["r", point.size + 4]]) this.ring.setAttribute(name, value);
    const genre = this.map.genres[bucket], titles = this.map.titles[bucket];
    const facts = `${whole(point.patterns)} patterns of ${whole(point.devices)} households, mean success ${point.success.toFixed(2)}`;
    this.tip.replaceChildren(element("b", {}, titles[0] ?? `group ${bucket}`), ...titles.slice(1).map((title) => element("div", {}, title)), element("div", { class: "dim" }, genre ? `${genre} · ${facts}` : facts));
    const { offsetWidth: wide, offsetHeight: high } = this.tip, { clientWidth: width, clientHeight: height } = this.box;
    const left = point.x + 14 + wide > width ? point.x - wide - 14 : point.x + 14;
    const top = point.y + 14 + high > height ? point.y - high - 14 : point.y + 14;
    this.tip.style.transform = `translate(${Math.max(4, Math.min(left, width - wide - 4))}px, ${Math.max(4, top)}px)`;
    if (say) this.said.textContent = `${this.name(point, ", ")}. ${facts}.`;
  }
}

function circle(point, kind, times) {
  return shape("circle", { class: `${kind} s${point.step}`, cx: point.x.toFixed(1), cy: point.y.toFixed(1), r: (point.size * times).toFixed(1) });
}
