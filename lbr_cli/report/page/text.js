"use strict";

// Elements and texts. No script parses text as HTML.

/** Create an element with properties, attributes (for the names below) and children; null values are skipped. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined) continue;
    if (key.includes("-") || key === "role" || key === "dir" || key === "scope") element.setAttribute(key, value);
    else if (key === "data") Object.assign(element.dataset, value);
    else element[key] = value;
  }
  element.append(...children.flat().filter((child) => child !== null));
  return element;
}

/** Create an SVG element with attributes and children. */
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const segmenter = typeof Intl.Segmenter === "function" ? new Intl.Segmenter(undefined, { granularity: "word" }) : null;

/** The words of a text: [from, to, word in lower case]. */
function* wordsOf(text) {
  if (segmenter) {
    for (const part of segmenter.segment(text)) {
      if (part.isWordLike) yield [part.index, part.index + part.segment.length, part.segment.toLowerCase()];
    }
    return;
  }
  for (const found of text.matchAll(/[\p{L}\p{M}\p{N}]+/gu)) {
    yield [found.index, found.index + found[0].length, found[0].toLowerCase()];
  }
}

// English stop words
const COMMON = new Set(
  ("a about an and are as at be been by can do does for from had has have how i if in into is it its my no not of on or " +
    "our so that the their them there these they this to was we were what when where which who why will with you your").split(" "),
);

/** The words of a query that are highlighted. */
function worthMarking(query) {
  return new Set([...wordsOf(query ?? "")].map((word) => word[2]).filter((word) => !COMMON.has(word)));
}

/** The words of a text that are highlighted: [from, to, properties of the mark]. */
function wordSpans(text, words) {
  return [...wordsOf(text)].filter((word) => words.has(word[2])).map(([from, to]) => [from, to, {}]);
}

/** Convert ascending offsets in characters (code points) to offsets in UTF-16 units. */
function unitsOf(text, characters) {
  let [units, passed] = [0, 0];
  return characters.map((wanted) => {
    for (; passed < wanted && units < text.length; passed += 1) units += text.codePointAt(units) > 0xffff ? 2 : 1;
    return units;
  });
}

/** A text with marked spans (ordered and disjoint) and, if given, the passage that its score comes from. */
function marked(text, spans, passage = null) {
  const whole = document.createDocumentFragment();
  const inside = make("span", { className: "passage", title: "the passage with the best score" });
  const [from, to] = passage ? unitsOf(text, passage) : [0, 0];
  const edges = new Set([0, text.length, from, to, ...spans.flatMap(([start, end]) => [start, end])]);
  const cuts = [...edges].sort((a, b) => a - b);
  let next = 0;
  cuts.slice(1).forEach((end, index) => {
    const start = cuts[index];
    while (next < spans.length && spans[next][1] <= start) next += 1;
    const isMarked = next < spans.length && spans[next][0] <= start;
    const piece = text.slice(start, end);
    const within = start >= from && start < to;
    if (within && !inside.parentNode) whole.append(inside);
    (within ? inside : whole).append(isMarked ? make("mark", spans[next][2], piece) : piece);
  });
  return whole;
}

/** An id, quoted if it would be invisible. */
function visible(id) {
  return /[^\s\u200b-\u200f\u2028\u2029]/.test(id) ? id : JSON.stringify(id);
}

/** The names of runs, without their folders if they stay distinct. */
function shortNames(names) {
  const short = names.map((name) => name.replace(/^.*\//, "") || name);
  return new Set(short).size === names.length ? short : names;
}

function number(value, digits = 4) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

/** A difference with its sign; 0 has none. */
function signed(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : value > 0 ? `+${text}` : `−${text.slice(1)}`;
}

function side(value) {
  return value > 1e-9 ? "better" : value < -1e-9 ? "worse" : "same";
}
