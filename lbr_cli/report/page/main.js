// The state of the page: the run compared with the first, the measure, and the query, which is also in the address.

const content = JSON.parse(document.getElementById("data").textContent);
content.runs = shortNames(content.runs);
const at = (id) => document.getElementById(id);
const state = { after: 1, measure: content.measures.length ? 0 : null, query: null };
const indexes = new Map(content.queries.map((query, index) => [query.id, index]));
const table = new QueryTable(content, at("queries"), (index) => go(index));
const view = new QueryView(content, at("query"), { step, close: () => go(null) });

function go(index) {
  location.hash = index === null ? "" : `query=${encodeURIComponent(content.queries[index].id)}`;
}

/** Go to the previous or next query in the order of the table. */
function step(by) {
  const order = table.visible().length ? table.visible() : table.rows.map((one) => one.index);
  const index = order.indexOf(state.query);
  const next = order[index + by] ?? order[by > 0 ? 0 : order.length - 1];
  if (next !== undefined) go(next);
}

function showQuery(moved) {
  const open = state.query !== null;
  at("summary").hidden = open;
  at("all").hidden = open;
  at("query").hidden = !open;
  if (!open) return;
  view.show(content.queries[state.query], state.after, state.measure);
  if (!moved) return;
  at("query-title").focus({ preventScroll: true });
  scrollTo(0, 0);
}

function showRun() {
  at("measures").replaceChildren(...(content.measures.length ? measures() : [make("p", {}, "There are no judgments, so no measures are shown.")]));
  at("curves").replaceChildren(...curvePanels(content, state.after));
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
    make("p", { className: "note" }, `Over ${content.judged} judged queries; means have 95 % confidence intervals (bootstrap).`),
    make("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "Table of measures" }, measureTable(content, state.after)),
    make("ul", { className: "extremes" }, extremes(), runs.map((run) => coverage(content, run))),
  ];
}

/** The queries with the largest gain and the largest loss. */
function extremes() {
  const digits = content.measures[state.measure].digits;
  const changes = content.queries
    .map((query, index) => [query.values[state.measure], index])
    .filter(([values]) => values)
    .map(([values, index]) => [values[state.after] - values[0], index])
    .sort((a, b) => b[0] - a[0]);
  const link = (name, [change, index]) => {
    const { id, text } = content.queries[index];
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
  if (content.runs.length < 3) return;
  content.runs.slice(1).forEach((name, index) => {
    const tab = make("button", { type: "button", role: "tab", data: { run: index + 1 }, "aria-controls": "summary" }, name);
    tab.onclick = () => choose(index + 1);
    at("tabs").append(tab);
  });
  at("tabs").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const count = content.runs.length - 1;
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
  const others = content.runs.length > 2 ? `${content.runs.length - 1} runs` : content.runs[1];
  at("about").textContent = `${others} compared with ${content.runs[0]}; ${content.queries.length} queries, the first ${content.depth} documents of each`;
  tabs();
  at("measure").append(...content.measures.map((measure, index) => make("option", { value: index }, measure.name)));
  at("measure-choice").hidden = !content.measures.length;
  at("measure").onchange = () => {
    state.measure = Number(at("measure").value);
    showRun();
  };
  const search = () => {
    const left = table.search(at("search").value);
    at("count").textContent = `${left} of ${content.queries.length}`;
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

/** The query id in an address, null if there is none or it is invalid. */
function idOf(hash) {
  try {
    return /^#query=(.*)$/.test(hash) ? decodeURIComponent(hash.slice("#query=".length)) : null;
  } catch {
    return null;
  }
}

function route(moved) {
  const was = state.query;
  state.query = indexes.get(idOf(location.hash)) ?? null;
  showQuery(moved);
  if (state.query === null && was !== null) {
    table.rows.find((one) => one.index === was)?.row.querySelector("a").focus();
  }
}

start();
