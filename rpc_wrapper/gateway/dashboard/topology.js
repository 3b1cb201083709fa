// The picture: the server, its links, its backends. Laid out in the pixels there are, so that text stays legible.

import { h, s } from "/dashboard/dom.js";
import { blocks, bytes, gpuText, ofBudget, percent, rate, seconds } from "/dashboard/format.js";
import { WORDS } from "/dashboard/machines.js";

const NARROW = 640;
const SERVER_WIDTH = 208;
const SERVER_HEIGHT = 118;
const CARD_HEIGHT = 76;
const CARD_GAP = 12;

/** Return the SVG for a width in pixels. */
export function picture({ server, backends }, snapshot, width) {
  const isNarrow = width < NARROW;
  const column = backends.length * (CARD_HEIGHT + CARD_GAP) - CARD_GAP;
  const layout = isNarrow ? narrow(width) : wide(width, column);
  const height = isNarrow ? layout.top + column + 2 : Math.max(column, SERVER_HEIGHT) + 4;
  const cards = backends.map((row, index) => ({ row, x: layout.left, y: layout.top + index * (CARD_HEIGHT + CARD_GAP), width: layout.cardWidth }));
  return s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": spoken(backends, snapshot), class: "topology", "data-key": isNarrow ? "narrow" : "wide" },
    s("g", { class: "links" }, cards.map((card) => linkPath(layout, card, isNarrow))),
    serverCard(server, snapshot, layout),
    cards.map((card) => backendCard(card, snapshot.plan?.n_layer ?? 0)),
    backends.length === 0 && s("text", { x: layout.left, y: layout.top + 40, class: "faint" }, "No backends: the server computes by itself."),
  );
}

function wide(width, column) {
  const gap = Math.max(72, Math.min(180, width * 0.14));
  const left = SERVER_WIDTH + gap;
  return { left, top: 2, cardWidth: width - left - 2, server: { x: 2, y: Math.max(2, (column - SERVER_HEIGHT) / 2), width: SERVER_WIDTH } };
}

function narrow(width) {
  return { left: 26, top: SERVER_HEIGHT + 24, cardWidth: width - 28, server: { x: 2, y: 2, width: width - 4 } };
}

function linkPath(layout, { row, x, y }, isNarrow) {
  const middle = y + CARD_HEIGHT / 2;
  const { server } = layout;
  const from = isNarrow ? [14, server.y + SERVER_HEIGHT] : [server.x + server.width, server.y + SERVER_HEIGHT / 2];
  const bend = isNarrow ? `V ${middle - 10} Q 14 ${middle} ${x} ${middle}` : `C ${(from[0] + x) / 2} ${from[1]} ${(from[0] + x) / 2} ${middle} ${x} ${middle}`;
  const path = `M ${from[0]} ${from[1]} ${bend}`;
  return s("g", { class: "link", "data-state": row.state, "data-busy": row.isBusy || null }, s("path", { d: path }), s("path", { d: path, class: "flow" }), !isNarrow && linkLabel(row, x, middle > from[1] + 1 ? middle + 18 : middle - 8));
}

function linkLabel(row, x, y) {
  if (row.rtt === null) return null;
  return s("text", { x: x - 10, y, class: "faint end halo" }, seconds(row.rtt));
}

function serverCard(server, snapshot, { server: box }) {
  const { x, y, width } = box;
  const local = server.parts.map((each) => `${each.device} ${blocks(each)}`).join(", ");
  const lines = [
    `${snapshot.slots} slots × ${snapshot.ctx_size_per_slot?.toLocaleString("en") ?? "?"} tokens`,
    local ? `holds ${local}` : server.used ? `${bytes(server.used)} of buffers` : "",
    server.cpu === null ? "" : load(server),
  ];
  return s(
    "g",
    { class: "server", "data-state": snapshot.state },
    s("rect", { x, y, width, height: SERVER_HEIGHT, rx: 12 }),
    s("circle", { cx: x + 18, cy: y + 22, r: 5, class: "dot" }),
    s("text", { x: x + 32, y: y + 26.5, class: "name" }, "server"),
    s("text", { x: x + width - 14, y: y + 26.5, class: "word end" }, snapshot.state),
    s("text", { x: x + 16, y: y + 51, class: "model" }, fitted(snapshot.model, width - 32, 7.4)),
    lines.filter(Boolean).map((line, index) => s("text", { x: x + 16, y: y + 71 + index * 17, class: "faint" }, fitted(line, width - 32, 6.3))),
  );
}

function backendCard({ row, x, y, width }, nLayer) {
  const half = (width - 48) * (width > 460 ? 0.4 : 0.5);
  const right = x + 16 + half + 16;
  const shareWidth = width > 460 ? 84 : 0;
  const barWidth = x + width - 16 - shareWidth - right;
  return s(
    "g",
    { class: "backend", "data-state": row.state, "data-key": row.address },
    s("rect", { x, y, width, height: CARD_HEIGHT, rx: 12 }),
    s("circle", { cx: x + 18, cy: y + 20, r: 5, class: "dot" }),
    s("text", { x: x + 32, y: y + 24.5, class: "name" }, fitted(row.name, width - 180, 7.6)),
    s("text", { x: x + width - 16, y: y + 24.5, class: row.state === "up" ? "faint end" : "word end" }, row.state === "up" ? load(row) : WORDS[row.state] ?? row.state),
    s("text", { x: x + 16, y: y + 46, class: "faint" }, layersText(row.parts)),
    layerStrip(row.parts, nLayer, x + 16, y + 54, half),
    s("text", { x: right, y: y + 46, class: "faint" }, row.budget ? ofBudget(row.used, row.budget) : bytes(row.used)),
    bar(row.budget ? row.used / row.budget : 0, right, y + 54, barWidth),
    shareWidth > 0 && share(row, x + width - 16, y),
  );
}

const load = (row) => (row.cpu === null ? "up" : [`CPU ${percent(row.cpu)}`, gpuLoad(row.gpus), bytes(row.memory)].filter(Boolean).join(" · "));

function gpuLoad(gpus) {
  const busy = gpus.map((gpu) => gpu.busy).filter((share) => share !== null);
  return busy.length ? `GPU ${percent(100 * Math.max(...busy))}` : "";
}

function share(row, x, y) {
  if (["down", "frozen"].includes(row.state)) return null;
  if (row.share === null || row.share === 0) return s("text", { x, y: y + 61, class: "faint end" }, "idle");
  return [s("text", { x, y: y + 50, class: "share end" }, percent(100 * row.share)), s("text", { x, y: y + 64, class: "faint end" }, "of a token")];
}

function layersText(parts) {
  if (!parts.length) return "not used";
  return parts.length === 1 ? `blocks ${blocks(parts[0])}` : `blocks ${parts.map((each) => `${blocks(each)}`).join(" | ")}`;
}

/** All blocks of the model in a row, those held here filled. */
function layerStrip(parts, nLayer, x, y, width) {
  const slots = nLayer + 1;
  const at = (slot) => x + (width * slot) / slots;
  const runs = parts.map((each, index) => {
    const end = each.last_block + 1 + (each.has_output ? 1 : 0);
    return s("rect", { x: at(each.first_block), y, width: Math.max(at(end) - at(each.first_block) - 1, 1.5), height: 8, rx: 2, class: index % 2 ? "held other" : "held" });
  });
  const ticks = slots <= 48 ? Array.from({ length: nLayer }, (_, slot) => s("line", { x1: at(slot + 1) - 0.5, x2: at(slot + 1) - 0.5, y1: y, y2: y + 8, class: "tick" })) : [];
  return [s("rect", { x, y, width, height: 8, rx: 2, class: "track" }), runs, ticks];
}

function bar(fraction, x, y, width) {
  if (width <= 0) return null;
  const filled = Math.min(1, Math.max(0, fraction));
  return [s("rect", { x, y, width, height: 8, rx: 4, class: "track" }), s("rect", { x, y, width: Math.max(filled * width, filled ? 3 : 0), height: 8, rx: 4, class: filled > 0.95 ? "fill full" : "fill" })];
}

const fitted = (text, width, glyph) => (text.length * glyph <= width ? text : `${text.slice(0, Math.max(3, Math.floor(width / glyph) - 1))}…`);

function spoken(backends, snapshot) {
  const each = backends.map((row) => `${row.name} ${WORDS[row.state] ?? row.state}, ${layersText(row.parts)}`);
  return `The server is ${snapshot.state} and uses ${backends.length} backends. ${each.join(". ")}.`;
}

/** The same facts as a table, for eyes and ears that prefer one. */
export function table({ backends }) {
  const hasGPUs = backends.some((each) => each.gpus.length);
  const heads = ["Backend", "State", "Blocks", "Held", "Budget", "CPU", "Memory", hasGPUs ? "GPU" : [], "Round trip", "Traffic", "Per token", "Restarts"].flat();
  const row = (each) =>
    h(
      "tr",
      { "data-key": each.address },
      h("th", { scope: "row" }, each.name, each.name === each.address ? null : h("small", {}, each.address)),
      h("td", { "data-state": each.state, class: "state" }, h("i", { class: "dot" }), WORDS[each.state] ?? each.state, each.detail && each.state !== "up" ? h("small", {}, each.detail) : null),
      [layersText(each.parts).replace("blocks ", ""), bytes(each.used), bytes(each.budget), percent(each.cpu), bytes(each.memory), hasGPUs ? gpuText(each.gpus).replaceAll("GPU ", "") || "–" : [], seconds(each.rtt), each.traffic === null ? "–" : `${bytes(each.traffic)}/s`, seconds(each.perToken), each.restarts ?? "–"].flat().map((text) => h("td", {}, String(text))),
    );
  return h("table", {}, h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, backends.map(row)));
}

/** A line of the last values with its area; the newest value stands beside it in words. */
export function sparkline(values, width, height) {
  const most = Math.max(...values, 1);
  const step = width / Math.max(values.length - 1, 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)} ${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  const line = points.length > 1 ? `M ${points.join(" L ")}` : "";
  const label = values.length ? `Tokens per second, the last ${values.length} seconds, at most ${rate(most)}` : "No tokens yet";
  return s(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, class: "spark", role: "img", "aria-label": label, preserveAspectRatio: "none" },
    line && s("path", { d: `${line} L ${width} ${height} L 0 ${height} Z`, class: "area" }),
    line && s("path", { d: line, class: "line" }),
  );
}
