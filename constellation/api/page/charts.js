// Lines over the last minutes, in SVG: a large one with axes, values under the pointer or the arrow keys, and a table; and
// a small one without anything.

import { digits, element, shape, table } from "./text.js";

const LENGTH = 600;
const SPANS_S = [60, 120, 300, 600];
const NAMES = ["one", "two", "three"];
const LEFT = 40, BOTTOM = 20, TOP = 8, RIGHT = 6;

/** The columns of the history, each a list; the oldest second goes when the next comes. */
export class Past {
  constructor() { this.columns = { at: [] }; }

  set(columns) { this.columns = columns; }

  add(now) {
    for (const [name, column] of Object.entries(this.columns)) {
      column.push(now[name] ?? null);
      if (column.length > LENGTH) column.shift();
    }
  }

  get length() { return this.columns.at.length; }

  /** Seconds that a chart shows: as many as there are, rounded up. */
  get span() {
    const held = this.length ? this.columns.at.at(-1) - this.columns.at[0] : 0;
    return SPANS_S.find((span) => held <= span) ?? SPANS_S.at(-1);
  }
}

export class TimeChart {
  /** `series`: [column, label]; `log`: a logarithmic axis; `limit`: a value to draw a line at. */
  constructor(figure, past, { series, log = false, limit = null, least = 1 }) {
    Object.assign(this, { past, series, log, limit, least });
    this.svg = shape("svg", { role: "img", "aria-label": series.map(([, label]) => label).join(", ") });
    this.plot = element("div", { class: "plot", tabindex: "0", "aria-label": "chart; left and right arrow keys read its values", role: "group" }, this.svg);
    this.values = series.map(() => element("output", {}, "–"));
    this.when = element("span", {}, "now");
    const keys = series.map(([, label], i) => element("span", { class: `key ${NAMES[i]}` }, label, this.values[i]));
    this.details = element("details", {}, element("summary", {}, "As a table"));
    this.rows = element("div", { class: "scroll" });
    this.details.append(this.rows);
    figure.append(this.plot, element("figcaption", {}, ...keys, this.when), this.details);
    this.at = null;
    this.plot.addEventListener("pointermove", (event) => this.read(event.clientX - this.plot.getBoundingClientRect().left));
    this.plot.addEventListener("pointerleave", () => this.leave());
    this.plot.addEventListener("blur", () => this.leave());
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.details.addEventListener("toggle", () => this.tell());
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (!width) return;
    Object.assign(this, { width, height });
    const times = this.past.columns.at, newest = times.at(-1) ?? 0, span = this.past.span;
    this.x = (at) => LEFT + (1 - (newest - at) / span) * (width - LEFT - RIGHT);
    const [y, ticks] = this.axis();
    const parts = ticks.flatMap((tick) => [
      shape("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(tick), y2: y(tick) }),
      shape("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, tick >= 1 ? tick.toLocaleString("en") : String(tick)),
    ]);
    for (const share of [0, 0.5, 1]) {
      const ago = Math.round(span * (1 - share)), anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
      const text = ago === 0 ? "now" : ago >= 60 ? `${ago / 60} min ago` : `${ago} s ago`;
      parts.push(shape("text", { x: this.x(newest - ago), y: height - 4, "text-anchor": anchor }, text));
    }
    this.series.forEach(([column], i) => parts.push(...this.line(column, NAMES[i], y, i === 0 && !this.log)));
    if (this.limit !== null && y(this.limit) > TOP) parts.push(shape("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: y(this.limit), y2: y(this.limit) }));
    if (this.at !== null) parts.push(shape("line", { class: "cross", x1: this.x(times[this.at]), x2: this.x(times[this.at]), y1: TOP, y2: height - BOTTOM }));
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...parts);
    this.tell();
  }

  /** Where a value lies, and which lines to draw. */
  axis() {
    const values = this.series.flatMap(([column]) => this.past.columns[column] ?? []).filter((value) => value !== null);
    const room = this.height - TOP - BOTTOM;
    if (this.log) {
      const low = 10 ** Math.floor(Math.log10(Math.max(0.01, Math.min(1, ...values.filter((value) => value > 0)))));
      const high = Math.max(10 * low, 1.15 * Math.max(...values, 1));
      const y = (value) => TOP + room * (1 - Math.log(Math.max(value, low) / low) / Math.log(high / low));
      const ticks = [];
      for (let power = low; power <= high; power *= 10) ticks.push(...(high / low > 300 ? [power] : [power, power * 2, power * 5]));
      return [y, ticks.filter((tick) => tick <= high).map((tick) => Number(tick.toPrecision(1)))];
    }
    const high = 1.1 * Math.max(...values, this.least), rough = high / 4, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
    const ticks = Array.from({ length: Math.floor(high / step) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
    return [(value) => TOP + room * (1 - value / high), ticks];
  }

  line(column, name, y, filled) {
    const times = this.past.columns.at, values = this.past.columns[column] ?? [];
    let path = "", open = false, first = 0, last = 0;
    values.forEach((value, i) => {
      if (value === null) { open = false; return; }
      last = this.x(times[i]);
      if (!path) first = last;
      path += `${open ? "L" : "M"}${last.toFixed(1)} ${y(value).toFixed(1)}`;
      open = true;
    });
    if (!path) return [];
    const line = shape("path", { class: `line ${name}`, d: path });
    const floor = this.height - BOTTOM;
    return filled ? [shape("path", { class: "area", d: `${path}L${last} ${floor}L${first} ${floor}Z` }), line] : [line];
  }

  read(left) {
    const times = this.past.columns.at;
    if (!times.length || !this.x) return;
    this.at = times.reduce((best, at, i) => (Math.abs(this.x(at) - left) < Math.abs(this.x(times[best]) - left) ? i : best), 0);
    this.draw();
  }

  leave() { this.at = null; this.draw(); }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !this.past.length) return;
    event.preventDefault();
    const last = this.past.length - 1;
    this.at = Math.min(last, Math.max(0, (this.at ?? last) + step * (event.shiftKey ? 10 : 1)));
    this.draw();
  }

  /** The values at the pointer, else the newest; and the table, where it is open. */
  tell() {
    const { at: times } = this.past.columns, last = times.length - 1;
    if (last < 0) return;
    const at = Math.min(this.at ?? last, last), ago = Math.round(times[last] - times[at]);
    this.series.forEach(([column], i) => { this.values[i].textContent = digits(this.past.columns[column]?.[at]); });
    this.when.textContent = ago ? `${ago} s ago` : "now";
    if (!this.details.open) return;
    const rows = [];
    for (let i = last; i >= 0; i -= 15) rows.push([new Date(times[i] * 1000).toLocaleTimeString("en-GB"), ...this.series.map(([column]) => digits(this.past.columns[column]?.[i]))]);
    this.rows.replaceChildren(table([["time"], ...this.series.map(([, label]) => [label])], rows));
  }
}

export class Spark {
  constructor(svg, past) {
    Object.assign(this, { svg, past });
    svg.setAttribute("viewBox", "0 0 100 30");
    svg.setAttribute("preserveAspectRatio", "none");
  }

  draw() {
    const values = (this.past.columns[this.svg.dataset.key] ?? []).slice(-120);
    const known = values.filter((value) => value !== null);
    if (known.length < 2) return;
    const low = Math.min(...known), high = Math.max(...known), room = Math.max(high - low, high * 0.05, 1e-9);
    const points = values.flatMap((value, i) => (value === null ? [] : [[(i / (values.length - 1)) * 100, 26 - ((value - low) / room) * 22]]));
    const path = points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}`).join("");
    const area = `${path}L${points.at(-1)[0]} 30L${points[0][0]} 30Z`;
    this.svg.replaceChildren(shape("path", { class: "area", d: area }), shape("path", { class: "line", d: path }));
  }
}
