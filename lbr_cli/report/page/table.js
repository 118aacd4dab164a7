// The table of queries: one row each, sorted by any column, searched by id and words.

/** What a query gained, and how far its ranking moved, from the first run to another. */
function movement(query, after, top = 10) {
  const before = query.lists[0].map((line) => line[0]);
  const now = query.lists[after].map((line) => line[0]);
  const places = new Map(before.map((document, place) => [document, place]));
  const kept = now.slice(0, top).filter((document) => (places.get(document) ?? top) < top).length;
  let climb = 0;
  now.forEach((document, place) => {
    const was = places.get(document);
    if (was !== undefined) climb = Math.max(climb, was - place);
  });
  return { kept, shown: Math.min(top, now.length), climb };
}

class QueryTable {
  constructor(story, table, open) {
    this.story = story;
    this.open = open;
    this.judged = story.measures.length > 0;
    this.columns = [
      { key: "query", name: "query" },
      ...(this.judged ? [{ key: "before", name: "before" }, { key: "after", name: "after" }, { key: "change", name: "change" }] : []),
      { key: "kept", name: "top 10 kept" },
      { key: "climb", name: "highest climb" },
    ];
    this.sort = this.judged ? { key: "change", down: true } : { key: "climb", down: true };
    this.body = make("tbody");
    this.head = make("tr", {}, this.columns.map((column) => make("th", { scope: "col", data: { key: column.key } }, make("button", { type: "button", onclick: () => this.sortBy(column.key) }, column.name))));
    table.append(make("thead", {}, this.head), this.body);
    this.rows = story.queries.map((query, place) => this.row(query, place));
  }

  row(query, place) {
    const cells = this.columns.slice(1).map(() => make("td"));
    const link = make("a", { href: `#query=${encodeURIComponent(query.id)}`, dir: "auto" }, query.id);
    const name = make("th", { scope: "row" }, link, query.text ? make("span", { className: "words", dir: "auto" }, query.text) : null);
    const row = make("tr", {}, name, cells);
    row.addEventListener("click", (event) => event.target.closest("a") || this.open(place));
    return { query, place, row, cells, text: `${query.id}\n${query.text ?? ""}`.toLowerCase(), values: {} };
  }

  /** Fill in what hangs on the run and the measure that are looked at. */
  show(after, measure) {
    for (const { query, cells, values } of this.rows) {
      const { kept, shown, climb } = movement(query, after);
      const told = this.judged ? query.values[measure] : null;
      Object.assign(values, {
        query: query.id,
        before: told ? told[0] : null,
        after: told ? told[after] : null,
        change: told ? told[after] - told[0] : null,
        kept,
        climb,
      });
      const texts = [
        ...(this.judged ? [number(values.before), number(values.after), signed(values.change)] : []),
        `${kept} of ${shown}`,
        climb ? `▲ ${climb}` : "–",
      ];
      texts.forEach((text, cell) => {
        cells[cell].textContent = text;
      });
      if (this.judged) cells[2].className = values.change === null ? "" : side(values.change);
    }
    this.arrange();
  }

  sortBy(key) {
    this.sort = { key, down: this.sort.key === key ? !this.sort.down : key !== "query" };
    this.arrange();
  }

  arrange() {
    const { key, down } = this.sort;
    const order = (a, b) => {
      const [first, second] = [a.values[key], b.values[key]];
      if (first === null || second === null) return (first === null) - (second === null) || a.place - b.place;
      const less = key === "query" ? first.localeCompare(second, undefined, { numeric: true }) : first - second;
      return (down ? -less : less) || a.place - b.place;
    };
    this.rows.sort(order);
    this.body.append(...this.rows.map((one) => one.row));
    for (const cell of this.head.children) {
      if (cell.dataset.key === key) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  }

  /** Hide what has not all of the words; how many rows are left. */
  search(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const one of this.rows) {
      one.row.hidden = !words.every((word) => one.text.includes(word));
      left += !one.row.hidden;
    }
    return left;
  }

  /** The places of the queries as they stand in the table. */
  visible() {
    return this.rows.filter((one) => !one.row.hidden).map((one) => one.place);
  }
}
