// Matched tokens of late-interaction models: marked in the texts, and listed below them.

const STRENGTHS = 4; // kinds of marks, from the least to the most similar
const OTHER_TEXT = 0; // instead of rows, if the text of the document is not the one that was scored

/** The matches of a query in one run. */
class MatchedTokens {
  constructor({ tokens, rows }) {
    this.tokens = tokens;
    this.rows = rows;
    const best = rows.filter(Boolean).flatMap(({ title = [], text = [] }) => [...title, ...text].map((row) => Math.max(...similarities(row))));
    [this.least, this.most] = best.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
  }

  /** The rows of the document at an index of the ranking, or OTHER_TEXT; null if there are no matches. */
  of(index) {
    return this.rows[index] ?? null;
  }

  /** The spans of rows in a text, which may be truncated: [from, to, properties of the mark]. */
  spans(text, rows = []) {
    const ends = unitsOf(text, rows.flatMap(([start, length]) => [start, start + length]));
    return rows
      .map((row, index) => [ends[2 * index], ends[2 * index + 1], { className: `match ${this.strength(row)}`, title: this.names(row) }])
      .filter(([from, to]) => from < to);
  }

  strength(row) {
    const range = this.most - this.least;
    const share = range > 0 ? (Math.max(...similarities(row)) - this.least) / range : 1;
    return `strength-${Math.max(1, Math.ceil(STRENGTHS * share))}`;
  }

  /** The tokens of the query that match, the most similar first: "figs 0.91, [MASK] 0.80 (3 times)". */
  names(row) {
    const found = new Map();
    for (let index = 2; index < row.length; index += 2) {
      found.set(row[index], [...(found.get(row[index]) ?? []), row[index + 1]]);
    }
    return [...found]
      .map(([token, values]) => [token, Math.max(...values), values.length])
      .sort((a, b) => b[1] - a[1])
      .map(([token, value, count]) => `${tokenName(this.tokens[token])} ${value.toFixed(2)}${count > 1 ? ` (${count} times)` : ""}`)
      .join(", ");
  }

  /** A list of the matches of a document, which is filled when the user opens it. */
  list(rows, title, text, isOpen, toggled) {
    const list = make("details", { className: "matches", open: isOpen }, make("summary", {}, "matched tokens"));
    const fill = () => list.childElementCount > 1 || list.append(make("ul", {}, this.items(rows, title, text)));
    if (isOpen) fill();
    list.addEventListener("toggle", () => {
      if (list.open) fill();
      toggled(list.open);
    });
    return list;
  }

  items({ title: ofTitle = [], text: ofText = [], others = [] }, title, text) {
    const shown = [
      ...this.pieces(title, ofTitle),
      ...this.pieces(text, ofText),
      ...others.map((row) => [tokenName(row[0]), row]),
    ];
    const beyond = ofTitle.length + ofText.length + others.length - shown.length;
    const items = shown.map(([name, row]) => make("li", {}, make("bdi", { className: "token" }, name), " ← ", make("bdi", {}, this.names(row))));
    if (beyond) items.push(make("li", {}, `${beyond} more after the end of the text on this page`));
    return items;
  }

  pieces(text, rows) {
    return this.spans(text, rows).map(([from, to], index) => [tokenName(text.slice(from, to)), rows[index]]);
  }
}

function similarities(row) {
  return row.filter((_, index) => index >= 2 && index % 2 === 1);
}

/** A token without the white space around it, quoted if there is nothing else. */
function tokenName(token) {
  return token.trim() ? token.trim() : JSON.stringify(token);
}

/** What the marks of the lists mean, for the runs that have matches. */
function matchLegend(content, runs) {
  const samples = Array.from({ length: STRENGTHS }, (_, index) => make("mark", { className: `match strength-${index + 1}` }, String(index + 1)));
  const limit = content.matches_depth < content.depth ? `, for the first ${content.matches_depth} documents of each ranking, so that the page stays small` : "";
  return make(
    "p",
    { className: "note" },
    `Marked in ${runs.join(" and ")}: the tokens that are most similar to a token of the query, from least similar `,
    ...samples.flatMap((sample) => [sample, " "]),
    `to most similar${limit}. “matched tokens” below a text lists the tokens of the query.`,
  );
}
