// What happened, when, and what was done about it: the history as incidents, each from its cause to its end.

import { byId, h } from "/dashboard/dom.js";
import { clock, plural, seconds } from "/dashboard/format.js";

const RESTS = new Set(["ready", "stopped", "failed"]); // where an incident ends
const SETBACKS = new Set(["fault", "backoff", "failed"]); // a restart somebody asked for is none
const MOST_AT_ONCE = 40; // rows built in one frame: the first look at a long history must not hold the page up
const REMARKS = new Set(["note", "fault"]); // they change no state: one that comes at rest is all there is
const DEEDS = {
  preparing: "asked the backends, planned",
  starting: "started the engine",
  ready: "a token came out",
  stopping: "took the engine down in order",
  fencing: "fenced the engine",
  backoff: "waited",
  failed: "gave up",
  stopped: "stopped",
  fault: "took note",
  note: "took note",
};

let filter = "all";
let drawn = null;
const rows = new Map(); // of an incident, by the moment it began, what was drawn of it

export function start(redraw) {
  for (const button of document.querySelectorAll("[data-filter]")) {
    button.addEventListener("click", () => {
      filter = button.dataset.filter;
      for (const other of document.querySelectorAll("[data-filter]")) other.setAttribute("aria-pressed", String(other === button));
      drawn = null;
      redraw();
    });
  }
}

/** Show the history of a snapshot, the newest first and the rest frame by frame; nothing new, nothing touched. */
export function draw({ snapshot }, redraw) {
  if (!snapshot) return;
  const newest = `${snapshot.history.length}/${snapshot.history.at(-1)?.number}/${filter}`;
  if (newest === drawn) return;
  drawn = newest;
  const all = incidents(snapshot.history).reverse();
  const shown = filter === "faults" ? all.filter((each) => each.isFault) : all;
  for (const began of rows.keys()) if (began < (snapshot.history[0]?.at ?? 0)) rows.delete(began);
  const nothing = h("li", { class: "nothing" }, filter === "faults" ? "No fault so far." : "Nothing has happened yet.");
  place(byId("events-list"), shown.length ? rowsOf(shown, redraw) : [nothing]);
}

/** Return the rows of incidents; where too many are new, as many as one frame may build, and have the next go on. */
function rowsOf(shown, redraw) {
  const found = [];
  let left = MOST_AT_ONCE;
  for (const each of shown) {
    if (!isKnown(each) && left-- === 0) {
      drawn = null;
      requestAnimationFrame(redraw);
      break;
    }
    found.push(rowOf(each));
  }
  return found;
}

const isKnown = ({ occurrences }) => rows.get(occurrences[0].at)?.count === occurrences.length;

/** Return an incident's row, drawn anew only when something was added to it: there may be hundreds. */
function rowOf(incident) {
  const began = incident.occurrences[0].at;
  if (isKnown(incident)) return rows.get(began).element;
  const element = row(incident);
  rows.set(began, { element, count: incident.occurrences.length });
  return element;
}

/** Make these the children of a list, moving none that is in its place: what is gone goes first. */
function place(list, elements) {
  const wanted = new Set(elements);
  for (const child of [...list.childNodes]) if (!wanted.has(child)) child.remove();
  let next = list.firstChild;
  for (const element of elements) {
    if (element === next) next = next.nextSibling;
    else list.insertBefore(element, next);
  }
}

/** Group occurrences: whatever follows a rest belongs together until the next rest. */
export function incidents(history) {
  const found = [];
  let open = null;
  for (const occurrence of history) {
    if (!open) {
      open = { occurrences: [], isFault: false, isOver: false };
      found.push(open);
    }
    const isRemark = REMARKS.has(occurrence.kind);
    open.occurrences.push(occurrence);
    open.isFault ||= Boolean(occurrence.fault) || SETBACKS.has(occurrence.kind);
    open.isOver = RESTS.has(occurrence.kind) || (isRemark && open.occurrences.length === 1);
    if (open.isOver) open = null;
  }
  return found;
}

function row({ occurrences, isFault, isOver }) {
  const first = occurrences[0];
  const last = occurrences.at(-1);
  const cause = occurrences.find((each) => each.fault) ?? first;
  const mood = last.kind === "failed" ? "bad" : !isOver ? "open" : isFault ? "healed" : "calm";
  const span = isOver && occurrences.length > 1 ? last.at - first.at : null;
  return h(
    "li",
    { class: "incident", "data-mood": mood, "data-key": first.number },
    h("header", {}, h("time", { datetime: new Date(first.at * 1000).toISOString() }, clock(first.at)), h("strong", {}, cause.fault?.text ?? first.text), badge(mood, span)),
    cause.fault && facts(cause.fault),
    occurrences.length > 1 && h("ol", { class: "steps" }, occurrences.map((each, index) => step(each, occurrences[index + 1], { from: first.at, to: last.at, title: cause.fault?.text ?? first.text }))),
  );
}

function badge(mood, span) {
  const words = { bad: "gave up", open: "under way", healed: "healed", calm: "done" };
  return h("span", { class: "badge" }, span === null ? words[mood] : `${words[mood]} in ${seconds(span)}`);
}

function facts(fault) {
  const known = [
    fault.backend && ["Backend", fault.backend],
    ["Sign", fault.kind.replace("_", " ")],
    fault.phase && ["During", fault.phase],
    typeof fault.detected_after_s === "number" && ["Noticed after", seconds(fault.detected_after_s)],
    typeof fault.deadline_s === "number" && ["Deadline", seconds(fault.deadline_s)],
  ].filter(Boolean);
  return h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** What an entry says beyond the deed itself and the cause, which stands above. */
function news({ kind, text }, title) {
  if ([title, DEEDS[kind], "prepared"].includes(text) || text.startsWith("trying again after ")) return "";
  return text.replace(`${title}; `, "").replace(`: ${title}.`, "");
}

/** One step, with its place and length in the whole as a bar. */
function step(occurrence, next, { from, to, title }) {
  const bar = h("span", { class: "span", "aria-hidden": "true" }, h("i"));
  const whole = Math.max(to - from, 0.001);
  bar.firstChild.style.marginLeft = `${((100 * (occurrence.at - from)) / whole).toFixed(1)}%`;
  bar.firstChild.style.width = `${next ? ((100 * (next.at - occurrence.at)) / whole).toFixed(1) : 0}%`;
  const lasted = h("span", { class: "lasted" }, next ? seconds(next.at - occurrence.at) : "");
  const said = news(occurrence, title);
  const why = said ? h("span", { class: "why" }, said) : null;
  const parts = occurrence.recovery ? h("span", { class: "why" }, recovery(occurrence.recovery)) : null;
  return h("li", { "data-kind": occurrence.kind }, h("span", { class: "deed" }, DEEDS[occurrence.kind] ?? occurrence.kind), bar, lasted, why, parts);
}

/** What a recovery was spent on, as its entry says. */
function recovery(spent) {
  const parts = [
    ["fenced", spent.fence_s],
    ["waited", spent.wait_s],
    ["loaded", spent.load_s],
    ["first token", spent.first_token_s],
  ].filter(([, value]) => typeof value === "number");
  const attempts = spent.attempts > 1 ? `${plural(spent.attempts, "attempt")}: ` : "";
  return `${attempts}${parts.map(([name, value]) => `${name} ${seconds(value)}`).join(", ")}`;
}
