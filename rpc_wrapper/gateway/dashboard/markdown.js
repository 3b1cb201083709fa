// Markdown to DOM nodes. A small part of CommonMark and tables; everything that is not markup stays text, HTML included.

import { h } from "/dashboard/dom.js";

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([\w+#.-]*)/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])\s+/;
const TABLE_RULE = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const SAFE_LINK = /^(https?:\/\/|mailto:)/i;
const DEEPEST = 6; // of quotes and lists; deeper ones stay text
// The first that matches at a place wins; named, so that the table below reads like this one.
const INLINE = new RegExp(
  [
    /(?<ticks>`+)(?<code>.+?)\k<ticks>(?!`)/,
    /\*\*\*(?=\S)(?<both>.+?)(?<=\S)\*\*\*/,
    /\*\*(?=\S)(?<strong>.+?)(?<=\S)\*\*/,
    /(?<!\w)__(?=\S)(?<strong2>.+?)(?<=\S)__(?!\w)/,
    /\*(?![\s*])(?<em>(?:[^*\n]|\*\*)+?)(?<![\s*])\*(?!\*)/,
    /(?<!\w)_(?![\s_])(?<em2>[^_\n]+?)(?<!\s)_(?!\w)/,
    /~~(?=\S)(?<gone>.+?)(?<=\S)~~/,
    /\[(?<label>[^\]\n]{1,500})\]\(\s*(?<address>[^)\s]{1,2000})\s*\)/,
    /(?<bare>https?:\/\/[^\s<>()"]{1,2000}[^\s<>().,;:!?'"])/,
    /\\(?<escaped>[\\`*_{}[\]()#+.!|~>-])/,
  ].map((each) => each.source).join("|"),
  "g",
);

/** Return the nodes of a text. */
export function render(text, depth = 0) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n");
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const [node, next] = block(lines, at, depth);
    if (node) nodes.push(node);
    at = next;
  }
  return nodes;
}

function block(lines, at, depth) {
  const line = lines[at];
  if (!line.trim()) return [null, at + 1];
  if (FENCE.test(line)) return fence(lines, at);
  const heading = HEADING.exec(line);
  if (heading) return [h(`h${Math.min(heading[1].length + 2, 6)}`, {}, inline(heading[2])), at + 1];
  if (RULE.test(line)) return [h("hr"), at + 1];
  if (QUOTE.test(line) && depth < DEEPEST) return quote(lines, at, depth);
  if (ITEM.test(line) && depth < DEEPEST) return list(lines, at, depth);
  if (line.includes("|") && TABLE_RULE.test(lines[at + 1] ?? "") && lines[at + 1].includes("-")) return table(lines, at);
  return paragraph(lines, at, depth);
}

function fence(lines, at) {
  const [, mark, language] = FENCE.exec(lines[at]);
  let end = at + 1;
  while (end < lines.length && !lines[end].trim().startsWith(mark)) end += 1;
  const code = lines.slice(at + 1, end).join("\n");
  return [h("pre", { tabindex: 0, "data-language": language || null }, h("code", {}, code)), end + 1];
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [h("blockquote", {}, render(inner.join("\n"), depth + 1)), end];
}

function list(lines, at, depth) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const item = ITEM.exec(lines[end]);
    if (!item || /\d/.test(item[2]) !== ordered || RULE.test(lines[end])) break;
    const [body, next] = listItem(lines, end, item[0].length);
    items.push(h("li", {}, unwrapped(render(body.join("\n"), depth + 1))));
    end = next;
  }
  const start = ordered ? parseInt(ITEM.exec(lines[at])[2], 10) : 1;
  return [ordered ? h("ol", { start: start === 1 ? null : start }, items) : h("ul", {}, items), end];
}

function listItem(lines, at, indent) {
  const body = [lines[at].slice(indent)];
  let end = at + 1;
  while (end < lines.length) {
    const line = lines[end];
    const inside = /^ {2,}|^\t/.test(line);
    const blankInside = !line.trim() && /^( {2,}|\t)\S/.test(lines[end + 1] ?? "");
    const lazy = line.trim() && !ITEM.test(line) && !startsBlock(line) && lines[end - 1].trim();
    if (!inside && !blankInside && !lazy) break;
    body.push(line.replace(new RegExp(`^ {0,${indent}}`), ""));
    end += 1;
  }
  while (end < lines.length && !lines[end].trim() && ITEM.test(lines[end + 1] ?? "")) end += 1;
  return [body, end];
}

/** An item of one paragraph is shown without the paragraph. */
const unwrapped = (nodes) => nodes.flatMap((node, index) => (index === 0 && node.nodeName === "P" ? [...node.childNodes] : [node]));

function table(lines, at) {
  const aligns = cells(lines[at + 1]).map((cell) => (/:$/.test(cell) ? (/^:/.test(cell) ? "center" : "right") : null));
  const row = (line, tag) => h("tr", {}, cells(line).map((cell, index) => h(tag, { "data-align": aligns[index] }, inline(cell))));
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|") && lines[end].trim()) end += 1;
  const body = lines.slice(at + 2, end).map((line) => row(line, "td"));
  return [h("div", { class: "scroll", tabindex: 0 }, h("table", {}, h("thead", {}, row(lines[at], "th")), h("tbody", {}, body))), end];
}

const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
const startsBlock = (line) => FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || RULE.test(line);

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && !startsBlock(lines[end]) && !(ITEM.test(lines[end]) && depth < DEEPEST)) end += 1;
  return [h("p", {}, inline(lines.slice(at, end).map((line) => line.trimStart()).join("\n"))), end];
}

function inline(text) {
  const nodes = [];
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > last) nodes.push(...broken(text.slice(last, match.index)));
    nodes.push(piece(match));
    last = match.index + match[0].length;
  }
  if (last < text.length) nodes.push(...broken(text.slice(last)));
  return nodes;
}

function piece(match) {
  const { code, both, strong, strong2, em, em2, gone, label, address, bare, escaped } = match.groups;
  if (code !== undefined) return h("code", {}, code.trim() || code);
  if (both) return h("strong", {}, h("em", {}, inline(both)));
  if (strong ?? strong2) return h("strong", {}, inline(strong ?? strong2));
  if (em ?? em2) return h("em", {}, inline(em ?? em2));
  if (gone) return h("del", {}, inline(gone));
  if (label !== undefined) return SAFE_LINK.test(address) ? link(address, label) : match[0];
  if (bare) return link(bare, bare);
  return escaped;
}

const link = (address, label) => h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, label);
const broken = (text) => text.split("\n").flatMap((line, index) => (index ? [h("br"), line] : [line]));
