// Numbers as people read them, and elements as the other files make them.

const plain = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const whole = (value) => plain.format(Math.round(value));
export const compact = (value) => (Math.abs(value) < 10_000 ? whole(value) : short.format(value));

/** With as many digits as say something: 0.42, 4.2, 42, 4,200. */
export function digits(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  return size >= 100 ? whole(value) : value.toFixed(size >= 10 ? 1 : size === 0 ? 0 : 2);
}

export function bytes(value) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return [digits(value), units[unit]];
}

export function duration(seconds) {
  for (const [size, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${name}`;
  }
  return `${Math.max(0, Math.floor(seconds))} s`;
}

/** An HTML element; `more` are attributes, strings among the children are text and never markup. */
export function element(name, more = {}, ...children) {
  return fill(document.createElement(name), more, children);
}

export function shape(name, more = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), more, children);
}

export function table(heads, rows) {
  const head = element("tr", {}, ...heads.map(([text, kind = ""]) => element("th", { class: kind, scope: "col" }, text)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell, i) => element("td", { class: heads[i][1] ?? "" }, cell))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
}

function fill(made, more, children) {
  for (const [name, value] of Object.entries(more)) if (value !== "" && value !== null) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== null).map((child) => (typeof child === "number" ? String(child) : child)));
  return made;
}
