// One query: its two rankings side by side, lines between the places of a document, and the texts.

const FIRST = 20; // documents of a list that are shown at once

class QueryView {
  constructor(story, section, actions) {
    this.story = story;
    this.section = section;
    this.actions = actions;
    new ResizeObserver(() => this.lines()).observe(section);
  }

  show(query, after, measure) {
    this.query = query;
    this.words = worthMarking(query.text);
    this.grades = query.grades ? new Map(query.grades) : null;
    const lists = [query.lists[0], query.lists[after]];
    this.places = lists.map((list) => new Map(list.map((line, place) => [line[0], place])));
    this.items = [new Map(), new Map()];
    this.links = draw("svg", { class: "links", "aria-hidden": "true" });
    const titles = [this.story.runs[0], this.story.runs[after]];
    const columns = lists.map((list, which) => this.column(list, which, titles[which]));
    const values = measure === null || !query.values?.[measure] ? null : query.values[measure];
    this.section.replaceChildren(
      make(
        "div",
        { className: "bar" },
        make("h2", { id: "query-title", tabIndex: -1 }, "Query ", make("bdi", {}, query.id)),
        make(
          "span",
          { className: "buttons" },
          make("button", { type: "button", onclick: () => this.actions.step(-1) }, "← previous"),
          make("button", { type: "button", onclick: () => this.actions.step(1) }, "next →"),
          make("button", { type: "button", onclick: () => this.actions.close() }, "all queries"),
        ),
      ),
      ...(query.text ? [make("p", { className: "asked", dir: "auto" }, query.text)] : []),
      ...(values
        ? [
            make(
              "p",
              {},
              `${this.story.measures[measure].name}: ${number(values[0])} → ${number(values[after])} `,
              make("strong", { className: side(values[after] - values[0]) }, signed(values[after] - values[0])),
            ),
          ]
        : []),
      ...(query.grades === null ? [make("p", {}, "This query is not judged.")] : []),
      ...this.missed(),
      make("div", { className: "lists" }, columns[0], this.links, columns[1]),
    );
    this.section.hidden = false;
    requestAnimationFrame(() => this.lines());
  }

  /** Relevant documents that neither list has. */
  missed() {
    const gone = [...(this.grades ?? [])].filter(([document, grade]) => grade > 0 && !this.places.some((places) => places.has(document)));
    if (!gone.length) return [];
    const names = gone.map(([document]) => this.story.documents[document][0]);
    return [make("p", { className: "note" }, `Relevant, and in neither list: ${names.join(", ")}`)];
  }

  column(list, which, title) {
    const items = list.map((line, place) => this.item(line, place, which));
    const column = make("div", { className: "list" }, make("h3", {}, title), make("ol", {}, items.slice(0, FIRST)));
    if (items.length > FIRST) {
      const more = make("button", { type: "button" }, `show all ${items.length}`);
      more.onclick = () => {
        column.querySelector("ol").append(...items.slice(FIRST));
        more.remove();
        this.lines();
      };
      column.append(more);
    }
    if (!list.length) column.append(make("p", {}, "This run does not have the query."));
    return column;
  }

  item([number_, score, details = {}], place, which) {
    const [id, title = "", text = null, cut = 0] = this.story.documents[number_];
    const other = this.places[1 - which].get(number_);
    const item = make(
      "li",
      { data: { document: number_ } },
      make(
        "div",
        { className: "line" },
        make("span", { className: "rank" }, String(place + 1)),
        make("span", { className: "name", dir: "auto" }, title || id),
        this.grade(number_),
        which === 1 ? moved(other, place) : null,
        make("span", { className: "score", title: "score" }, score === null ? "–" : shortest(score)),
      ),
      title ? make("div", { className: "id" }, make("bdi", {}, id)) : null,
      details.digits ? digitBars(details) : null,
      otherDetails(details),
    );
    if (text !== null) {
      const body = make("p", { className: "text", dir: "auto" }, marked(text, this.words, details.passage), cut ? " …" : "");
      const button = make("button", { type: "button", className: "more", "aria-expanded": "false" }, "read on");
      button.onclick = () => {
        const open = item.classList.toggle("open");
        button.setAttribute("aria-expanded", String(open));
        button.textContent = open ? "less" : "read on";
        this.lines();
      };
      item.append(body, button);
    }
    for (const [name, on] of [["mouseenter", true], ["mouseleave", false], ["focusin", true], ["focusout", false]]) {
      item.addEventListener(name, () => this.light(number_, on));
    }
    this.items[which].set(number_, item);
    return item;
  }

  grade(number_) {
    if (!this.grades) return null;
    const grade = this.grades.get(number_);
    if (grade === undefined) return make("span", { className: "grade none", title: "not judged" }, "?");
    const name = grade > 0 ? "relevant" : "not relevant";
    return make("span", { className: grade > 0 ? "grade" : "grade zero", title: `${name}, grade ${grade}`, "aria-label": `grade ${grade}` }, String(grade));
  }

  /** A document's line and its two places stand out. */
  light(number_, on) {
    for (const items of this.items) items.get(number_)?.classList.toggle("lit", on);
    this.links.querySelector(`[data-document="${number_}"]`)?.classList.toggle("lit", on);
  }

  /** Offer to read on where a text is longer than what is shown. */
  fit() {
    const cut = [...this.section.querySelectorAll(".text")].map((text) => [text, text.scrollHeight > text.clientHeight + 1]);
    for (const [text, more] of cut) {
      if (!text.parentNode.classList.contains("open")) text.nextSibling.hidden = !more;
    }
  }

  /** Draw the lines between the places where a document stands in both lists. */
  lines() {
    if (this.section.hidden || !this.links?.isConnected) return;
    this.fit();
    const box = this.links.getBoundingClientRect();
    const paths = [];
    for (const [number_, item] of this.items[1]) {
      const other = this.items[0].get(number_);
      if (!item.isConnected || !other?.isConnected) continue;
      const [from, to] = [other, item].map((one) => one.getBoundingClientRect().top - box.top + 16);
      const change = this.places[0].get(number_) - this.places[1].get(number_);
      const path = draw("path", { class: side(change), d: `M0,${from} C${box.width / 2},${from} ${box.width / 2},${to} ${box.width},${to}` });
      path.dataset.document = number_;
      if ((this.grades?.get(number_) ?? 0) > 0) path.classList.add("relevant");
      paths.push(path);
    }
    this.links.replaceChildren(...paths);
  }
}

/** How far a document came, from its place in the first list. */
function moved(was, place) {
  if (was === undefined) return make("span", { className: "moved" }, "new");
  const by = was - place;
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
  const told = digits.map((share, place) => `${place + 1}: ${(100 * share).toFixed(1)} %`).join(", ");
  const bars = digits.map((share, place) =>
    make("span", { className: "digit" }, make("i", { style: `height:${Math.max(2, 100 * share)}%` }), make("b", {}, String(place + 1))),
  );
  const name = `probabilities of the digits, ${told}${mass === undefined ? "" : `; together ${(100 * mass).toFixed(1)} %`}`;
  return make("div", { className: "digits", role: "img", "aria-label": name, title: name }, bars);
}

function otherDetails(details) {
  const told = [];
  if (details.probability !== undefined) told.push(`probability ${number(details.probability)}`);
  if (details.reranker_score !== undefined) told.push(`the model's own score ${shortest(details.reranker_score)}`);
  if (details.truncated) told.push("read in part: the text was too long for the model");
  return told.length ? make("div", { className: "note" }, told.join("; ")) : null;
}
