// The plan in force and what every other strategy would make of the same model on the same devices.

import { request } from "/dashboard/api.js";
import { byId, h, show } from "/dashboard/dom.js";
import { blocks, bytes, ofBudget, percent, plural } from "/dashboard/format.js";

const MEANINGS = {
  uniform: "as many blocks for each",
  memory: "every device equally full",
  compute: "the slowest stage as fast as possible",
  mixed: "between memory and compute",
  custom: "as APP_BOUNDARIES says",
  single_device: "all on the one device that holds it",
  local: "all on the server itself",
};

let asked = null; // the plan the comparison belongs to
let comparison = null;
let problem = "";

/** Show the plan; the comparison is asked for once per plan. */
export function draw({ snapshot }, redraw) {
  if (!snapshot) return;
  const plan = snapshot.plan;
  byId("plan-lead").textContent = plan ? leadText(snapshot, plan) : "";
  const wanted = plan ? JSON.stringify([plan.argv, snapshot.generation]) : null;
  if (wanted !== null && wanted !== asked) {
    asked = wanted;
    compare().then(redraw);
  }
  show(byId("plan-body"), plan ? [comparisonView(plan), reasonView(plan)] : h("p", { class: "nothing" }, snapshot.reason));
}

const leadText = (snapshot, plan) =>
  `${snapshot.model}: ${plan.n_layer} blocks, ${plural(plan.workload.n_parallel, "slot")} of ${plan.workload.ctx_size.toLocaleString("en")} tokens`;

async function compare() {
  try {
    comparison = await (await request("/cluster/strategies")).json();
    problem = "";
  } catch (error) {
    problem = error.message;
  }
}

function comparisonView(plan) {
  if (problem) return h("p", { class: "problem" }, problem);
  if (!comparison) return h("p", { class: "nothing" }, "Planning by every strategy…");
  return h("div", { class: "strategies" }, comparison.strategies.map((outcome) => strategyView(outcome, comparison.chosen, plan.n_layer)));
}

function strategyView(outcome, chosen, nLayer) {
  const isChosen = outcome.name === chosen;
  const title = h("header", {}, h("h2", {}, outcome.name), h("p", {}, MEANINGS[outcome.name] ?? ""), isChosen && h("span", { class: "badge" }, "in force"));
  const body = outcome.fits ? [modelBar(outcome.assignments, nLayer), summary(outcome.assignments)] : h("p", { class: "refusal" }, outcome.reason);
  return h("article", { class: "strategy", "data-chosen": isChosen || null, "data-fits": String(outcome.fits) }, title, body);
}

/** The whole model as a bar, cut where the strategy cuts it. */
function modelBar(assignments, nLayer) {
  const whole = assignments.every((each) => each.first_block === 0 && each.last_block === nLayer - 1) && assignments.length > 1;
  const parts = assignments.map((each, index) => {
    const part = whole ? each.share : Math.max(each.last_block - each.first_block + 1 + (each.has_output ? 1 : 0), 1);
    const text = whole ? "all" : blocks(each).replace(" + output", "+");
    const piece = h("li", { "data-tone": index % 4, title: `${label(each)}: blocks ${blocks(each)}` }, h("span", {}, text));
    piece.style.flexGrow = String(part);
    return piece;
  });
  const spoken = assignments.map((each) => `${label(each)} holds blocks ${blocks(each)}`).join("; ");
  return h("ol", { class: "model", "aria-label": spoken }, parts);
}

function summary(assignments) {
  const used = (each) => each.weights_bytes + each.kv_bytes + each.compute_bytes;
  const limited = assignments.filter((each) => each.budget_bytes < 2 ** 60);
  const fullest = limited.reduce((a, b) => (used(b) / b.budget_bytes > used(a) / a.budget_bytes ? b : a), limited[0]);
  const least = Math.min(...limited.map((each) => each.budget_bytes - used(each)));
  if (!fullest) return h("dl", { class: "facts" });
  const known = [
    ["Devices", String(assignments.length)],
    ["Fullest", `${label(fullest)}, ${percent((100 * used(fullest)) / fullest.budget_bytes, 1)} (${ofBudget(used(fullest), fullest.budget_bytes)})`],
    ["Least headroom", bytes(least)],
  ];
  return h("dl", { class: "facts" }, known.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

const label = (assignment) => {
  const place = assignment.endpoint ?? assignment.device;
  return assignment.index ? `${place}#${assignment.index}` : place;
};

function reasonView(plan) {
  const lines = plan.reason.split("\n").filter(Boolean);
  return h("details", { class: "panel" }, h("summary", {}, "The arithmetic of the plan in force"), h("ul", { class: "reasons" }, lines.map((line) => h("li", {}, line))), h("pre", { tabindex: 0 }, h("code", {}, plan.argv.join(" "))));
}
