// One query: its two rankings side by side, lines between the positions of a document, and the texts.

const FIRST = 20; // documents of a list that are shown at once

class QueryView {
  constructor(content, section, actions) {
    this.content = content;
    this.section = section;
    this.actions = actions;
    new ResizeObserver(() => this.lines()).observe(section);
  }

  show(query, after, measure) {
    if (query !== this.query) {
      this.opened = new Set(); // documents whose text is open
      this.whole = new Set(); // lists that are shown to their end
    }
    this.query = query;
    this.words = worthMarking(query.text);
    this.grades = query.grades ? new Map(query.grades.map(([document, grade]) => [document, grade])) : null;
    const lists = [query.lists[0], query.lists[after]];
    this.indexes = lists.map((list) => new Map(list.map((line, index) => [line[0], index])));
    this.items = [new Map(), new Map()];
    this.links = draw("svg", { class: "links", "aria-hidden": "true" });
    const titles = [this.content.runs[0], this.content.runs[after]];
    this.matches = [0, after].map((run) => (query.matches?.[run] ? new MatchedTokens(query.matches[run]) : null));
    const matching = titles.filter((_, which) => this.matches[which]);
    const columns = lists.map((list, which) => this.column(list, which, titles[which]));
    const values = measure === null ? null : query.values[measure];
    const digits = measure === null ? 0 : this.content.measures[measure].digits;
    this.section.replaceChildren(
      make(
        "div",
        { className: "bar" },
        make("h2", { id: "query-title", tabIndex: -1 }, "Query ", make("bdi", {}, visible(query.id))),
        make(
          "span",
          { className: "buttons" },
          make("button", { type: "button", onclick: () => this.actions.step(-1) }, "← previous"),
          make("button", { type: "button", onclick: () => this.actions.step(1) }, "next →"),
          make("button", { type: "button", onclick: () => this.actions.close() }, "all queries"),
        ),
      ),
      ...(query.text ? [make("p", { className: "query-text", dir: "auto" }, query.text)] : []),
      ...(values
        ? [
            make(
              "p",
              {},
              `${this.content.measures[measure].name}: ${number(values[0], digits)} → ${number(values[after], digits)} `,
              make("strong", { className: side(values[after] - values[0]) }, signed(values[after] - values[0], digits)),
            ),
          ]
        : []),
      ...(query.grades === null ? [make("p", {}, "This query is not judged.")] : []),
      ...this.missed(after),
      ...(matching.length ? [matchLegend(this.content, matching)] : []),
      make("div", { className: "lists" }, columns[0], this.links, columns[1]),
    );
    this.section.hidden = false;
    requestAnimationFrame(() => this.lines());
  }

  /** Relevant documents that neither list shows, and their ranks in the runs. */
  missed(after) {
    const index = (at) => (at === null ? "not retrieved" : `rank ${at + 1}`);
    const names = (this.query.grades ?? [])
      .filter(([document, grade]) => grade > 0 && !this.indexes.some((indexes) => indexes.has(document)))
      .map(([document, , at]) => {
        const id = visible(this.content.documents[document][0]);
        return at[0] === null && at[after] === null ? `${id} (in neither run)` : `${id} (before: ${index(at[0])}, after: ${index(at[after])})`;
      });
    return names.length ? [make("p", { className: "note" }, `Relevant but not shown: ${names.join(", ")}`)] : [];
  }

  column(list, which, title) {
    const items = list.map((line, index) => this.item(line, index, which));
    const shown = this.whole.has(which) ? items : items.slice(0, FIRST);
    const column = make("div", { className: "list" }, make("h3", {}, title), make("ol", {}, shown));
    if (items.length > shown.length) {
      const more = make("button", { type: "button", className: "rest" }, `show all ${items.length}`);
      more.onclick = () => {
        this.whole.add(which);
        column.querySelector("ol").append(...items.slice(FIRST));
        more.remove();
        this.lines();
      };
      column.append(more);
    }
    if (!list.length) column.append(make("p", {}, "The query is not in this run."));
    return column;
  }

  item([number_, score, was, details = {}], index, which) {
    const [id, title = "", text = null, cut = 0] = this.content.documents[number_];
    const matches = this.matches[which];
    const rows = matches?.of(index) ?? null;
    const spans = (whole, ofWhole) => (rows ? matches.spans(whole, ofWhole) : wordSpans(whole, this.words));
    const item = make(
      "li",
      { data: { document: number_ } },
      make(
        "div",
        { className: "line" },
        make("span", { className: "rank" }, String(index + 1)),
        make("span", { className: "name", dir: "auto" }, title ? marked(title, spans(title, rows?.title)) : visible(id)),
        this.grade(number_),
        which === 1 ? moved(was, index) : null,
        make("span", { className: "score" }, make("span", { className: "unseen" }, "score "), score === null ? "–" : shortest(score)),
      ),
      title ? make("div", { className: "id" }, make("bdi", {}, visible(id))) : null,
      details.digits ? digitBars(details) : null,
      otherDetails(details, rows),
    );
    if (text !== null) {
      const body = make("p", { className: "text", dir: "auto" }, marked(text, spans(text, rows?.text), details.passage), cut ? " …" : "");
      const button = make("button", { type: "button", className: "more", "aria-expanded": "false" }, "read on");
      const open = (on) => {
        item.classList.toggle("open", on);
        button.setAttribute("aria-expanded", String(on));
        button.textContent = on ? "less" : "read on";
        this.opened[on ? "add" : "delete"](`${which} ${number_}`);
      };
      open(this.opened.has(`${which} ${number_}`));
      button.onclick = () => {
        open(!item.classList.contains("open"));
        this.lines();
      };
      item.append(body, button);
      if (rows) item.append(matches.list(rows, title, text, ...this.kept(`matches ${which} ${number_}`)));
    }
    for (const [name, on] of [["mouseenter", true], ["mouseleave", false], ["focusin", true], ["focusout", false]]) {
      item.addEventListener(name, () => this.light(number_, on));
    }
    this.items[which].set(number_, item);
    return item;
  }

  /** Whether a part of the page is open, and a function that stores whether the user opens or closes it. */
  kept(name) {
    return [this.opened.has(name), (on) => this.opened[on ? "add" : "delete"](name)];
  }

  grade(number_) {
    if (!this.grades) return null;
    const grade = this.grades.get(number_);
    const judged = grade !== undefined;
    const name = judged ? `grade ${grade}, ${grade > 0 ? "relevant" : "not relevant"}` : "not judged";
    const className = `grade ${judged ? (grade > 0 ? "" : "zero") : "none"}`;
    return make("span", { className, title: name, role: "img", "aria-label": name }, judged ? String(grade) : "?");
  }

  /** Highlight a document in both lists, and its line. */
  light(number_, on) {
    for (const items of this.items) items.get(number_)?.classList.toggle("lit", on);
    this.links.querySelector(`[data-document="${number_}"]`)?.classList.toggle("lit", on);
  }

  /** Hide the button "read on" of texts that are fully shown. */
  fit() {
    const cut = [...this.section.querySelectorAll(".text")].map((text) => [text, text.scrollHeight > text.clientHeight + 1]);
    for (const [text, more] of cut) {
      if (!text.parentNode.classList.contains("open")) text.nextSibling.hidden = !more;
    }
  }

  /** Draw a line for each document that is in both lists. */
  lines() {
    if (this.section.hidden || !this.links?.isConnected) return;
    this.fit();
    const box = this.links.getBoundingClientRect();
    const paths = [];
    for (const [number_, item] of this.items[1]) {
      const other = this.items[0].get(number_);
      if (!item.isConnected || !other?.isConnected) continue;
      const [from, to] = [other, item].map((one) => one.getBoundingClientRect().top - box.top + 16);
      const change = this.indexes[0].get(number_) - this.indexes[1].get(number_);
      const path = draw("path", { class: side(change), d: `M0,${from} C${box.width / 2},${from} ${box.width / 2},${to} ${box.width},${to}` });
      path.dataset.document = number_;
      if ((this.grades?.get(number_) ?? 0) > 0) path.classList.add("relevant");
      paths.push(path);
    }
    this.links.replaceChildren(...paths);
  }
}

/** The change in rank of a document since the first run. */
function moved(was, index) {
  if (was === null) return make("span", { className: "moved" }, "new");
  const by = was - index;
  if (!by) return make("span", { className: "moved" }, "=");
  const text = by > 0 ? `▲ ${by}` : `▼ ${-by}`;
  const name = `${by > 0 ? "up" : "down"} ${Math.abs(by)}, was ${was + 1}`;
  return make("span", { className: `moved ${side(by)}`, title: name, "aria-label": name, role: "img" }, text);
}

function shortest(score) {
  return String(Number(score.toPrecision(6)));
}

/** The probabilities of the digits 1 to 7, as bars. */
function digitBars({ digits, mass }) {
  const parts = digits.map((share, index) => `${index + 1}: ${(100 * share).toFixed(1)} %`).join(", ");
  const bars = digits.map((share, index) =>
    make("span", { className: "digit" }, make("i", { style: `height:${Math.max(2, 100 * share)}%` }), make("b", {}, String(index + 1))),
  );
  const name = `probabilities of the digits, ${parts}${mass === undefined ? "" : `; sum ${(100 * mass).toFixed(1)} %`}`;
  return make("div", { className: "digits", role: "img", "aria-label": name, title: name }, bars);
}

function otherDetails(details, rows) {
  const parts = [];
  if (details.probability !== undefined) parts.push(`probability ${number(details.probability)}`);
  if (details.reranker_score !== undefined) parts.push(`the model's own score ${shortest(details.reranker_score)}`);
  if (details.truncated) parts.push("truncated: the text was too long for the model");
  if (rows === OTHER_TEXT) parts.push("matched tokens are not marked: the text differs from the one that was scored");
  return parts.length ? make("div", { className: "note" }, parts.join("; ")) : null;
}
