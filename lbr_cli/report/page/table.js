// The table of queries: one row each, sortable by any column, searchable by id and words.

/** How many of the top documents stayed in the top, and the largest rise of a document in rank. */
function movement(query, after, top = 10) {
  const lines = query.lists[after];
  const kept = lines.slice(0, top).filter(([, , was]) => was !== null && was < top).length;
  const climb = lines.reduce((most, [, , was], index) => Math.max(most, was === null ? 0 : was - index), 0);
  return { kept, shown: Math.min(top, lines.length), climb };
}

class QueryTable {
  constructor(content, table, open) {
    this.content = content;
    this.open = open;
    this.judged = content.measures.length > 0;
    table.classList.toggle("judged", this.judged);
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
    this.rows = content.queries.map((query, index) => this.row(query, index));
  }

  row(query, index) {
    const cells = this.columns.slice(1).map(() => make("td"));
    const link = make("a", { href: `#query=${encodeURIComponent(query.id)}`, dir: "auto" }, visible(query.id));
    const name = make("th", { scope: "row" }, link, query.text ? make("span", { className: "words", dir: "auto" }, query.text) : null);
    const row = make("tr", {}, name, cells);
    row.addEventListener("click", (event) => event.target.closest("a") || this.open(index));
    return { query, index, row, cells, text: `${query.id}\n${query.text ?? ""}`.toLowerCase(), values: {} };
  }

  /** Fill in the cells that depend on the selected run and measure. */
  show(after, measure) {
    const digits = this.judged ? this.content.measures[measure].digits : 0;
    for (const { query, cells, values } of this.rows) {
      const { kept, shown, climb } = movement(query, after);
      const measured = this.judged ? query.values[measure] : null;
      Object.assign(values, {
        query: query.id,
        before: measured ? measured[0] : null,
        after: measured ? measured[after] : null,
        change: measured ? measured[after] - measured[0] : null,
        kept,
        climb,
      });
      const texts = [
        ...(this.judged ? [number(values.before, digits), number(values.after, digits), signed(values.change, digits)] : []),
        shown ? `${kept} of ${shown}` : "not in the run",
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
      if (first === null || second === null) return (first === null) - (second === null) || a.index - b.index;
      const less = key === "query" ? first.localeCompare(second, undefined, { numeric: true }) : first - second;
      return (down ? -less : less) || a.index - b.index;
    };
    this.rows.sort(order);
    this.body.append(...this.rows.map((one) => one.row));
    for (const cell of this.head.children) {
      if (cell.dataset.key === key) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
      else cell.removeAttribute("aria-sort");
    }
  }

  /** Hide rows without all of the words; return how many are left. */
  search(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const one of this.rows) {
      one.row.hidden = !words.every((word) => one.text.includes(word));
      left += !one.row.hidden;
    }
    return left;
  }

  /** The indexes of the visible queries, in the order of the table. */
  visible() {
    return this.rows.filter((one) => !one.row.hidden).map((one) => one.index);
  }
}
