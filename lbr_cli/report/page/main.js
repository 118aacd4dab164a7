// What is looked at: which run beside the first, which measure, which query. The query stands in the address.

const story = JSON.parse(document.getElementById("data").textContent);
story.runs = shortNames(story.runs);
const at = (id) => document.getElementById(id);
const state = { after: 1, measure: story.measures.length ? 0 : null, query: null };
const places = new Map(story.queries.map((query, place) => [query.id, place]));
const table = new QueryTable(story, at("queries"), (place) => go(place));
const view = new QueryView(story, at("query"), { step, close: () => go(null) });

function go(place) {
  location.hash = place === null ? "" : `query=${encodeURIComponent(story.queries[place].id)}`;
}

/** The query before or after this one, as the table stands. */
function step(by) {
  const order = table.visible().length ? table.visible() : table.rows.map((one) => one.place);
  const place = order.indexOf(state.query);
  const next = order[place + by] ?? order[by > 0 ? 0 : order.length - 1];
  if (next !== undefined) go(next);
}

function showQuery(moved) {
  const open = state.query !== null;
  at("summary").hidden = open;
  at("all").hidden = open;
  at("query").hidden = !open;
  if (!open) return;
  view.show(story.queries[state.query], state.after, state.measure);
  if (!moved) return;
  at("query-title").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function showRun() {
  at("measures").replaceChildren(...(story.measures.length ? measures() : [make("p", {}, "There are no judgments: the page shows what moved.")]));
  at("curves").replaceChildren(...curvePanels(story, state.after));
  table.show(state.after, state.measure);
  for (const tab of at("tabs").children) {
    const on = Number(tab.dataset.run) === state.after;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
  }
}

function measures() {
  const runs = [0, state.after];
  return [
    make("p", { className: "note" }, `Over ${story.judged} judged queries; means have 95 % confidence intervals (bootstrap).`),
    make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Table of measures" }, measureTable(story, state.after)),
    make("ul", { className: "extremes" }, extremes(), runs.map((run) => coverage(story, run))),
  ];
}

/** The queries that gained and lost most. */
function extremes() {
  const digits = story.measures[state.measure].digits;
  const changes = story.queries
    .map((query, place) => [query.values[state.measure], place])
    .filter(([values]) => values)
    .map(([values, place]) => [values[state.after] - values[0], place])
    .sort((a, b) => b[0] - a[0]);
  const link = (name, [change, place]) => {
    const { id, text } = story.queries[place];
    const address = `#query=${encodeURIComponent(id)}`;
    return make("li", {}, `${name}: `, make("a", { href: address, dir: "auto" }, text || visible(id)), " ", make("span", { className: side(change) }, signed(change, digits)));
  };
  const [most, least] = [changes[0], changes[changes.length - 1]];
  return [
    side(most?.[0] ?? 0) === "better" ? link("Gained most", most) : make("li", {}, "No query gained."),
    side(least?.[0] ?? 0) === "worse" ? link("Lost most", least) : make("li", {}, "No query lost."),
  ];
}

function tabs() {
  if (story.runs.length < 3) return;
  story.runs.slice(1).forEach((name, place) => {
    const tab = make("button", { type: "button", role: "tab", data: { run: place + 1 }, "aria-controls": "summary" }, name);
    tab.onclick = () => choose(place + 1);
    at("tabs").append(tab);
  });
  at("tabs").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const count = story.runs.length - 1;
    choose(((state.after - 1 + by + count) % count) + 1);
    at("tabs").children[state.after - 1].focus();
    event.stopPropagation();
  });
}

function choose(after) {
  state.after = after;
  showRun();
  showQuery(false);
}

function start() {
  const others = story.runs.length > 2 ? `${story.runs.length - 1} runs` : story.runs[1];
  at("about").textContent = `${others} beside ${story.runs[0]}; ${story.queries.length} queries, the first ${story.depth} documents of each`;
  tabs();
  at("measure").append(...story.measures.map((measure, place) => make("option", { value: place }, measure.name)));
  at("measure-choice").hidden = !story.measures.length;
  at("measure").onchange = () => {
    state.measure = Number(at("measure").value);
    showRun();
  };
  const search = () => {
    const left = table.search(at("search").value);
    at("count").textContent = `${left} of ${story.queries.length}`;
  };
  at("search").oninput = search;
  showRun();
  search();
  addEventListener("hashchange", () => route(true));
  addEventListener("keydown", (event) => {
    if (state.query === null || event.target.closest("input, select") || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.key === "Escape") go(null);
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  route(false);
}

/** The query that an address names; an address that nobody made here may name none. */
function idOf(hash) {
  try {
    return /^#query=(.*)$/.test(hash) ? decodeURIComponent(hash.slice("#query=".length)) : null;
  } catch {
    return null;
  }
}

function route(moved) {
  const was = state.query;
  state.query = places.get(idOf(location.hash)) ?? null;
  showQuery(moved);
  if (state.query === null && was !== null) {
    table.rows.find((one) => one.place === was)?.row.querySelector("a").focus();
  }
}

start();
