// The measures with their confidence intervals, and the curves.

function measureTable(content, after) {
  const head = ["measure", content.runs[0], content.runs[after], "change", "p", "better / same / worse"];
  const rows = content.measures.map((measure) => {
    const before = measure.rows[0];
    const row = measure.rows[after];
    const digits = measure.digits;
    return make(
      "tr",
      {},
      make("th", { scope: "row" }, measure.name),
      make("td", {}, number(before.value, digits), interval(before.interval)),
      make("td", {}, number(row.value, digits), interval(row.interval)),
      make("td", { className: side(row.change) }, signed(row.change, digits), interval(row.change_interval, signed)),
      make("td", {}, row.p === null ? "–" : row.p < 0.0001 ? "<0.0001" : number(row.p)),
      make("td", {}, counts(row.counts)),
    );
  });
  return make(
    "table",
    {},
    make("thead", {}, make("tr", {}, head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, rows),
  );
}

function interval(values, how = number) {
  return values ? make("small", {}, `${how(values[0], 3)} … ${how(values[1], 3)}`) : null;
}

function counts([wins, ties, losses]) {
  const all = wins + ties + losses || 1;
  const part = (count, name) => make("span", { className: name, style: `width:${(100 * count) / all}%` });
  return [
    make("span", {}, `${wins} / ${ties} / ${losses}`),
    make("span", { className: "counts", "aria-hidden": "true" }, part(wins, "better"), part(ties, "same"), part(losses, "worse")),
  ];
}

const WIDE = 300;
const HIGH = 190;
const EDGE = { left: 40, right: 12, top: 12, bottom: 34 };

/** A curve of each run: the first one thin and grey, the one compared with it thick. */
function curvePanel(curve, content, after) {
  const all = curve.runs.flat();
  const top = Math.max(...all, 0.05);
  const low = Math.min(...all, 0);
  const across = (index) => EDGE.left + ((WIDE - EDGE.left - EDGE.right) * index) / Math.max(curve.at.length - 1, 1);
  const up = (value) => HIGH - EDGE.bottom - ((HIGH - EDGE.top - EDGE.bottom) * (value - low)) / (top - low);
  const labels = curve.runs.map((values, run) => `${content.runs[run]}: ${values.map((value, i) => `${curve.at[i]}: ${number(value, 3)}`).join(", ")}`);
  const panel = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${curve.name}. ${labels.join(". ")}` });
  for (const share of [0, 0.5, 1]) {
    const value = low + share * (top - low);
    panel.append(
      draw("line", { class: "grid", x1: EDGE.left, x2: WIDE - EDGE.right, y1: up(value), y2: up(value) }),
      draw("text", { x: EDGE.left - 6, y: up(value) + 4, "text-anchor": "end" }, value.toFixed(2)),
    );
  }
  curve.at.forEach((at, index) => panel.append(draw("text", { x: across(index), y: HIGH - EDGE.bottom + 16, "text-anchor": "middle" }, String(at))));
  panel.append(draw("text", { x: WIDE / 2, y: HIGH - 3, "text-anchor": "middle" }, curve.axis));
  curve.runs.forEach((values, run) => {
    const name = run === 0 ? "before" : run === after ? "after" : "other";
    panel.append(
      draw("polyline", { class: name, points: values.map((value, index) => `${across(index)},${up(value)}`).join(" ") }),
      ...(name === "other" ? [] : values.map((value, index) => draw("circle", { class: name, cx: across(index), cy: up(value), r: 3 }))),
    );
  });
  return make("figure", {}, make("figcaption", {}, curve.name), panel);
}

function curvePanels(content, after) {
  if (!content.curves.length) return [];
  const key = (name, text) => make("span", { className: `key ${name}` }, text);
  const others = content.runs.length > 2 ? key("other", "other runs") : null;
  return [
    make("div", { className: "panels" }, content.curves.map((curve) => curvePanel(curve, content, after))),
    make("p", { className: "legend" }, key("before", content.runs[0]), key("after", content.runs[after]), ...(others ? [others] : [])),
  ];
}

/** How well a run and the judgments match. */
function coverage(content, run) {
  const [missing, unjudged, share] = content.coverage[run];
  const parts = [`${(100 * share).toFixed(1)} % of its first 10 documents are judged`];
  if (missing) parts.unshift(`${missing} of ${content.judged} judged queries are missing, and count 0`);
  if (unjudged) parts.unshift(`${unjudged} of its queries have no judgments, and are ignored`);
  return make("li", {}, `${content.runs[run]}: ${parts.join("; ")}`);
}
