// What the shard tells, put where it belongs. Everything shown comes from /api/v1/live; other shards from /api/v1/shards.

import { Past, Spark, TimeChart } from "./charts.js";
import { TasteMap } from "./map.js";
import { ask, listen, token } from "./stream.js";
import { bytes, compact, digits, duration, element, table, whole } from "./text.js";

const SHARDS_EVERY_MS = 10_000;
const of = (id) => document.getElementById(id);
const past = new Past();
const charts = [
  new TimeChart(of("chart-rate"), past, { series: [["rate", "syncs a second"]] }),
  new TimeChart(of("chart-latency"), past, { series: [["p50_ms", "p50"], ["p99_ms", "p99"], ["p999_ms", "p99.9"]], log: true }),
  new TimeChart(of("chart-lag"), past, { series: [["lag_ms", "largest in a second"]], limit: 5, least: 6 }),
  ...[...document.querySelectorAll(".spark")].map((svg) => new Spark(svg, past)),
];
const map = new TasteMap({ box: of("map"), said: of("map-said"), legend: of("map-legend"), rows: of("map-table"), about: of("map-about") });
let region = null;

const handlers = {
  history(told) {
    past.set(told.columns);
    of("shard").textContent = told.shard_id;
    of("facts").textContent = `· ${told.region} · shares ${told.sharing}`;
    of("version").textContent = `Constellation ${told.version}`;
    document.title = `${told.shard_id} · Constellation`;
    draw();
  },
  now(told) {
    past.add({ ...told, ...told.storage });
    showTiles(told);
    showStorage(told.storage);
    showFederation(told);
    draw();
  },
  map: (told) => map.setMap(told),
  taste: (told) => map.setTaste(told),
  trends: showTrends,
  rounds: showRounds,
};

function draw() { for (const chart of charts) chart.draw(); }

function pill(id, text, kind) {
  const shown = of(id), pulse = shown.classList.contains("pulse") ? " pulse" : "";
  if (shown.textContent !== text) shown.textContent = text;
  shown.className = `pill ${kind}${pulse}`;
}

function big(id, value, unit, more) {
  of(id).replaceChildren(value, ...(unit ? [element("small", {}, ` ${unit}`)] : []));
  of(`${id}-more`).textContent = more;
}

function showTiles(now) {
  pill("status", now.status, { ready: "good", loading: "warn", draining: "warn" }[now.status] ?? "bad");
  big("rate", digits(now.rate), "/s", `${whole(now.in_flight)} in flight · up ${duration(now.uptime_s)}`);
  big("p99", digits(now.p99_ms), "ms", `p50 ${digits(now.p50_ms)} · p99.9 ${digits(now.p999_ms)}`);
  big("devices", compact(now.devices), "", `${compact(now.active)} active in 15 min`);
  big("patterns", compact(now.patterns), "", `${compact(now.served)} served · ${compact(now.titles)} titles`);
  big("lag", digits(now.lag_ms), "ms", "largest in a second");
  big("memory", ...bytes(now.bytes_resident), "of columns and index");
}

function showTrends({ regions }) {
  if (!regions.some((each) => each.region === region)) region = regions[0].region;
  of("regions").replaceChildren(...regions.map((each) => {
    const button = element("button", { type: "button", "aria-pressed": String(each.region === region) }, each.region);
    button.addEventListener("click", () => { region = each.region; showTrends({ regions }); focusRegion(); });
    return button;
  }));
  const { trends } = regions.find((each) => each.region === region);
  const items = trends.map((trend, i) => {
    const bar = element("i");
    bar.style.width = `${trend.score * 100}%`;
    const more = [trend.year, trend.genre].filter(Boolean).join(" · ");
    return element("li", {}, element("span", { class: "rank" }, i + 1), element("span", { class: "name", title: trend.title }, trend.title),
      element("span", { class: "more" }, more), element("span", { class: "bar", role: "img", "aria-label": `score ${trend.score.toFixed(2)}` }, bar));
  });
  of("trends").replaceChildren(...(items.length ? items : [element("li", { class: "dim" }, "Nothing is trending there yet.")]));
}

function focusRegion() { of("regions").querySelector('[aria-pressed="true"]').focus(); }

function showStorage(storage) {
  if (!storage) {
    of("storage").replaceChildren(element("p", { class: "dim" }, "Nothing is kept: this shard runs with --storage memory."));
    return;
  }
  const [size, unit] = bytes(storage.journal_bytes), failing = Object.entries(storage.failing);
  const circuit = element("span", { class: `pill ${{ closed: "good", "half-open": "warn" }[storage.circuit] ?? "bad"}` }, storage.circuit);
  const facts = [
    ["Position", whole(storage.position)], ["Journal", `${size} ${unit}`], ["Last commit", `${digits(storage.commit_ms)} ms`],
    ["Backlog", `${whole(storage.backlog_records)} records`], ["Lag", `${digits(storage.backlog_age_s)} s`], ["Last flush", `${digits(storage.flush_ms)} ms`],
    ["Flushes", whole(storage.flushes)], ["Circuit", circuit],
  ];
  const list = element("dl", {}, ...facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  of("storage").replaceChildren(list, ...failing.map(([part, why]) => element("p", { class: "why" }, `${part}: ${why}`)));
}

function showFederation({ federation, prototypes, codebook_version: codebook }) {
  of("main").classList.toggle("alone", !federation);
  of("federation").textContent = !federation ? "This shard is alone. Shards that share a coordinator database (--coordinator-url) learn from each other in rounds."
    : federation.failing ? `Goes on without this shard: ${federation.failing}`
    : `Serves round ${federation.round}, ${whole(prototypes)} prototypes, codebook ${codebook}, map epoch ${federation.epoch}.`;
}

function showRounds({ rounds }) {
  const heads = [["round"], ["state", "text"], ["age"], ["shards", "text"], ["households"], ["prototypes"], ["trends"], ["epsilon"], ["took"]];
  const now = Date.now() / 1000;
  const rows = rounds.map((round) => {
    const fill = element("i"), bar = element("span", { class: `coverage ${round.reported < round.expected ? "part" : ""}`, "aria-hidden": "true" }, fill);
    fill.style.width = `${(round.reported / Math.max(1, round.expected)) * 100}%`;
    const epsilon = round.epsilon === null ? "exact" : round.spent === null ? digits(round.epsilon) : `${digits(round.epsilon)}, in all ${digits(round.spent)}`;
    return [round.number, round.why ? `${round.state}: ${round.why}` : round.state, duration(now - round.opened_at),
      element("span", {}, bar, `${round.reported}/${round.expected}`), whole(round.devices), whole(round.prototypes), whole(round.trends), epsilon, `${digits(round.took_s)} s`];
  });
  of("rounds").replaceChildren(...(rows.length ? [table(heads, rows)] : []));
}

async function showShards() {
  try {
    const reply = await ask("api/v1/shards");
    if (reply.ok) {
      const shards = (await reply.json()).shards.sort((a, b) => a.id.localeCompare(b.id)), mine = of("shard").textContent;
      of("shards").hidden = shards.length < 2;
      of("shards").replaceChildren(...shards.map((shard) => shard.id === mine
        ? element("span", { "aria-current": "page" }, shard.id)
        : element("a", { href: `${shard.url}/`, title: `${shard.region}, ${shard.status}` }, shard.id)));
    }
  } catch { /* the stream says that the shard is away */ }
  setTimeout(showShards, SHARDS_EVERY_MS);
}

function onState(what, detail) {
  of("token").hidden = what !== "refused";
  if (what === "live") { pill("link", "live", "good"); return; }
  if (what === "waiting") { pill("link", `away, again in ${detail} s`, "warn"); return; }
  pill("link", "a token is needed", "bad");
  of("token-why").textContent = !token.get() ? "" : detail === 401 ? "This token is not valid." : "This token may not read metrics.";
  token.clear();
}

const stream = listen("api/v1/live", (kind, data) => handlers[kind]?.(data), onState);
of("token").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(of("token-field").value.trim());
  of("token-field").value = "";
  stream.resume();
});
showShards();
