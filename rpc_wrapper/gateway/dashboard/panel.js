// The panel beside the chat: how the cluster is, in as many words as fit, for who asks the model and not the machines.

import { byId, h, show } from "/dashboard/dom.js";
import { bytes, gpuText, percent, plural } from "/dashboard/format.js";
import { machines, WORDS } from "/dashboard/machines.js";

const STORED = "rpc-wrapper.panel";
const WIDE = "(min-width: 1180px)"; // where it stands beside the chat instead of above it

export function start(redraw) {
  const panel = byId("now");
  const stored = localStorage.getItem(STORED);
  panel.open = stored ? stored === "open" : matchMedia(WIDE).matches;
  panel.addEventListener("toggle", redraw);
  byId("now-count").parentElement.addEventListener("click", () => localStorage.setItem(STORED, panel.open ? "closed" : "open")); // as it will be
}

export function draw({ snapshot }) {
  if (!snapshot) return;
  const { server, backends } = machines(snapshot);
  const up = backends.filter((row) => row.state === "up").length;
  show(byId("now-count"), backends.length ? `${up} of ${plural(backends.length, "backend")} up` : "no backends");
  byId("now-count").parentElement.dataset.state = mood(snapshot, backends);
  if (byId("now").open) show(byId("now-body"), facts(snapshot), h("ul", {}, machine({ ...server, state: snapshot.state }), backends.map(machine)));
}

/** What is worst decides. */
function mood(snapshot, backends) {
  const states = backends.map((row) => row.state);
  return states.find((state) => state === "down" || state === "frozen") ?? states.find((state) => state !== "up") ?? snapshot.state;
}

function facts(snapshot) {
  const { running = 0, queued = 0 } = snapshot.traffic ?? {};
  const rows = [
    ["State", snapshot.state],
    ["Model", snapshot.model],
    ["Requests", queued ? `${running} running, ${queued} waiting` : `${running} running`],
  ];
  return h("dl", { class: "facts" }, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

function machine({ name, state, cpu, memory, gpus }) {
  const load = cpu === null && memory === null ? "" : `CPU ${percent(cpu)} · ${bytes(memory)}`;
  const lines = [load, gpuText(gpus)].filter(Boolean).map((text) => h("small", {}, text));
  return h("li", { "data-state": state, "data-key": name }, h("i", { class: "dot" }), h("span", { class: "title" }, name), h("span", { class: "word" }, WORDS[state] ?? state), lines);
}
