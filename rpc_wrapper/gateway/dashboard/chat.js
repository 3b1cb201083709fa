// The chat: a conversation with the model, and under each answer what it cost and where.

import { events, Failure, request } from "/dashboard/api.js";
import { byId, h, show } from "/dashboard/dom.js";
import { current, sampleAfter, watch } from "/dashboard/feed.js";
import { bytes, grouped, percent, plural, rate, seconds } from "/dashboard/format.js";
import { bounded, conversations, defaults, forget, fresh, keep, keepOptions, options } from "/dashboard/history.js";
import { loadBetween, simulatedBetween } from "/dashboard/load.js";
import { render } from "/dashboard/markdown.js";

const EXAMPLES = ["Once upon a time, a little fox", "Explain pipeline parallelism in three sentences.", "Write a haiku about a slow network."];
const QUIET_MS = 1500; // a pause longer than this is explained
const LAST_SAMPLE_MS = 2500;
const LOADS = [["cpu", "CPU", percent], ["memory", "Memory", bytes], ["gpu", "GPU", percent], ["gpuMemory", "GPU memory", bytes]];

let conversation = fresh();
let running = null; // the answer that is being given
let chosen = options();
const views = new WeakMap(); // of a message, the element that shows it

export function start() {
  byId("chat-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send(byId("chat-input").value);
  });
  byId("chat-input").addEventListener("keydown", onKey);
  byId("chat-input").addEventListener("input", grow);
  byId("chat-stop").addEventListener("click", stop);
  byId("chat-new").addEventListener("click", () => open(fresh()));
  document.addEventListener("keydown", (event) => event.key === "Escape" && escape());
  document.addEventListener("pointerdown", (event) => !byId("chat-options").contains(event.target) && closeOptions());
  startOptions();
  drawPast();
  draw();
  watch(onFeed);
}

function startOptions() {
  const [system, tokens, temperature] = ["opt-system", "opt-tokens", "opt-temperature"].map(byId);
  system.value = chosen.system;
  tokens.value = chosen.max_tokens;
  temperature.value = chosen.temperature;
  const take = () => {
    chosen = {
      system: system.value,
      max_tokens: bounded(Math.round(tokens.valueAsNumber), 1, 1024, defaults.max_tokens),
      temperature: bounded(temperature.valueAsNumber, 0, 2, defaults.temperature),
    };
    byId("opt-temperature-out").value = chosen.temperature.toFixed(2);
    hint();
    keepOptions(chosen);
  };
  for (const field of [system, tokens, temperature]) field.addEventListener("input", take);
  tokens.addEventListener("change", () => (tokens.value = chosen.max_tokens));
  take();
}

function hint() {
  const extra = chosen.system.trim() ? "system prompt, " : "";
  byId("chat-hint").textContent = `${extra}${plural(chosen.max_tokens, "token")} at most, temperature ${chosen.temperature.toFixed(2)}`;
}

function onKey(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send(byId("chat-input").value);
}

function grow() {
  const input = byId("chat-input");
  input.style.height = "auto";
  input.style.height = `${Math.min(input.scrollHeight, 240)}px`;
}

function open(other) {
  if (running) stop();
  conversation = other;
  draw();
  drawPast();
  byId("chat-input").focus();
}

/** Escape closes what is open, else it stops the answer. */
function escape() {
  if (document.querySelector("dialog[open]")) return;
  if (byId("chat-options").open) closeOptions();
  else stop();
}

function closeOptions() {
  byId("chat-options").open = false;
}

function stop() {
  running?.abort.abort();
}

async function send(text) {
  if (running || !text.trim()) return;
  const input = byId("chat-input");
  input.value = "";
  grow();
  conversation.title ||= text.trim().slice(0, 80);
  conversation.messages.push({ role: "user", content: text });
  const message = { role: "assistant", content: "", stats: null };
  conversation.messages.push(message);
  draw();
  running = new Answer(message, conversation);
  busy(true);
  await running.run();
  running = null;
  busy(false);
  drawPast();
  input.focus({ preventScroll: true });
}

function busy(is) {
  byId("chat-send").hidden = is;
  byId("chat-stop").hidden = !is;
  byId("chat-log").setAttribute("aria-busy", String(is));
}

/** One answer, from the question to the figures under it. */
class Answer {
  constructor(message, owner) {
    this.message = message;
    this.owner = owner;
    this.abort = new AbortController();
    this.began = performance.now();
    this.first = null;
    this.last = this.began;
    this.tokens = 0;
    this.resumed = 0;
    this.delay = 0; // before tokens; that of the links comes to it
    this.pending = false;
  }

  async run() {
    this.ticker = setInterval(() => this.explainPause(), 500);
    try {
      await this.stream();
    } catch (error) {
      this.message.error = error.name === "AbortError" ? null : sentence(error);
      this.message.stopped = error.name === "AbortError";
    }
    clearInterval(this.ticker);
    this.count();
  }

  async stream() {
    const asked = this.owner.messages.slice(0, -1);
    // A question that got no answer is left out: many templates want the two sides to take turns.
    const history = asked.filter((each, index) => each.content && (asked[index + 1]?.content ?? "last") !== "");
    const system = chosen.system.trim() ? [{ role: "system", content: chosen.system }] : [];
    const body = {
      messages: [...system, ...history.map(({ role, content }) => ({ role, content }))],
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: chosen.max_tokens,
      temperature: chosen.temperature,
    };
    const response = await request("/v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: this.abort.signal,
    });
    for await (const event of events(response)) this.take(event);
  }

  take(event) {
    const resumed = /^resumed (\d+)/.exec(event.comment);
    if (resumed) this.resumed = Number(resumed[1]);
    const delayed = /^token delay: total_delay=([\d.]+)/.exec(event.comment);
    if (delayed) this.delay = Number(delayed[1]);
    if (!event.data || event.data === "[DONE]") return;
    const chunk = JSON.parse(event.data);
    if (chunk.error) throw new Failure(chunk.error.message, 0, chunk.error.code);
    this.resumed = chunk.resumed ?? this.resumed;
    this.usage = chunk.usage ?? this.usage;
    const { content: text, reasoning_content: thought } = chunk.choices?.[0]?.delta ?? {};
    if (!text && !thought) return;
    this.last = performance.now();
    this.first ??= this.last;
    this.tokens += 1;
    this.message.content += text ?? "";
    this.message.thoughts = (this.message.thoughts ?? "") + (thought ?? "");
    this.draw();
  }

  /** Show the text at most once per frame, however fast tokens come. */
  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      const text = views.get(this.message)?.querySelector(".text");
      if (!text?.isConnected || this.message.stats) return;
      const follows = atBottom();
      show(text, render(this.message.content));
      showThoughts(views.get(this.message).querySelector(".thoughts"), this.message);
      this.explainPause();
      if (follows) toBottom();
    });
  }

  /** While nothing comes, say what the cluster is doing about it. */
  explainPause() {
    const note = views.get(this.message)?.querySelector(".pause");
    if (!note || this.message.stats) return;
    const { snapshot } = current();
    const quiet = performance.now() - this.last > QUIET_MS || (snapshot && snapshot.state !== "ready");
    const text = quiet ? pauseText(snapshot, (performance.now() - this.last) / 1000) : "";
    if (note.textContent !== text) note.textContent = text;
  }

  /** Show the figures at once, and those of the machines as soon as they have been asked again. */
  async count() {
    const ended = performance.now();
    this.message.stats = {
      ttft: this.first === null ? null : (this.first - this.began) / 1000,
      tokens: this.usage?.completion_tokens ?? this.tokens,
      total: (ended - this.began) / 1000,
      decode: this.first === null ? null : (this.last - this.first) / 1000,
      delay: this.delay,
      resumed: this.resumed,
      nodes: [],
    };
    this.put();
    await sampleAfter(ended, LAST_SAMPLE_MS);
    const samples = current().samples;
    const upTo = samples.find((sample) => sample.at > ended)?.at ?? ended;
    this.message.stats.delay += simulatedBetween(samples, this.began, upTo);
    this.message.stats.nodes = loadBetween(samples, this.began, upTo);
    this.put();
  }

  put() {
    if (this.owner.isDropped) return;
    keep(this.owner);
    const follows = atBottom();
    views.get(this.message)?.replaceWith(entry(this.message));
    if (follows) toBottom();
  }
}

function pauseText(snapshot, waited) {
  if (!snapshot || snapshot.state === "ready") return `waiting, ${seconds(Math.floor(waited))}`;
  return `${snapshot.state}: ${snapshot.progress || snapshot.reason}. The answer goes on by itself.`;
}

function sentence(error) {
  return error instanceof Failure ? error.message : "The connection to the server broke; send the message again.";
}

// What is shown.

function draw() {
  const log = byId("chat-log");
  log.replaceChildren(...(conversation.messages.length ? conversation.messages.map(entry) : [welcome()]));
  toBottom();
}

function welcome() {
  const examples = EXAMPLES.map((text) => h("button", { type: "button", class: "example", onclick: () => send(text) }, text));
  const title = h("p", { class: "greeting" }, "What would you like to ask?");
  return h("div", { class: "welcome" }, title, h("p", { class: "lead", id: "welcome-lead" }, leadText(current().snapshot)), h("div", { class: "examples" }, examples));
}

function leadText(snapshot) {
  if (!snapshot) return "";
  const nodes = snapshot.plan?.assignments?.length;
  const over = nodes ? `, ${snapshot.plan.n_layer} blocks over ${plural(nodes, "device")}` : "";
  return `${snapshot.model}${over}`;
}

function entry(message) {
  const view = message.role === "user" ? h("article", { class: "mine", "aria-label": "You" }, message.content) : theirs(message);
  views.set(message, view);
  return view;
}

function theirs(message) {
  const notes = [
    message.error && h("p", { class: "problem", role: "alert" }, message.error),
    message.stopped && h("p", { class: "pause" }, "Stopped."),
    !message.stats && h("p", { class: "pause", role: "status" }),
  ];
  const thoughts = h("details", { class: "thoughts" }, h("summary", {}, "Reasoning"), h("p"));
  showThoughts(thoughts, message);
  const text = h("div", { class: "text" }, render(message.content));
  return h("article", { class: "theirs", "aria-label": "Answer" }, thoughts, text, notes, message.stats && figures(message.stats));
}

function showThoughts(element, message) {
  element.hidden = !message.thoughts;
  element.lastElementChild.textContent = message.thoughts ?? "";
}

function figures(stats) {
  const speed = stats.decode > 0 && stats.tokens > 1 ? (stats.tokens - 1) / stats.decode : null;
  const facts = [
    ["TTFT", seconds(stats.ttft)],
    ["Tokens", grouped(stats.tokens)],
    ["Total", seconds(stats.total)],
    ["Speed", speed === null ? "–" : `${rate(speed)} tok/s`],
    ["Delay", stats.delay ? seconds(stats.delay) : "0 s", "Latency simulated on the links and before tokens"],
    ["Resumed", stats.resumed === 1 ? "once" : stats.resumed ? `${stats.resumed} times` : "never"],
  ];
  const terms = facts.map(([name, value, title]) => h("div", { title, "data-fact": name, class: name === "Resumed" && stats.resumed ? "marked" : null }, h("dt", {}, name), h("dd", {}, value)));
  return h("footer", { class: "stats" }, h("dl", {}, terms), stats.nodes.length > 0 && nodeTable(stats.nodes));
}

function nodeTable(nodes) {
  const known = LOADS.filter(([field]) => field === "cpu" || field === "memory" || nodes.some((node) => node[field]));
  const pair = (value, format) => [h("td", {}, value ? format(value.max) : "–"), h("td", {}, value ? format(value.avg) : "–")];
  const row = (node) => h("tr", {}, h("th", { scope: "row" }, node.name), known.map(([field, , format]) => pair(node[field], format)));
  const head = ["Machine", ...known.flatMap(([, name]) => [`${name} max`, `${name} avg`])].map((name) => h("th", { scope: "col" }, name));
  return h("details", {}, h("summary", {}, `CPU and memory of ${plural(nodes.length, "machine")}`), h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, head)), h("tbody", {}, nodes.map(row)))));
}

function drawPast() {
  const items = conversations().map((each) => {
    const isOpen = each.id === conversation.id;
    const title = h("button", { type: "button", class: "title", "aria-current": isOpen ? "true" : null, onclick: () => open(each) }, each.title);
    const remove = h("button", { type: "button", class: "remove", "aria-label": `Delete “${each.title}”`, onclick: () => drop(each) }, "×");
    return h("li", {}, title, remove);
  });
  byId("chat-past").replaceChildren(...items);
}

function drop(other) {
  forget(other.id);
  if (other.id === conversation.id) {
    conversation.isDropped = true;
    open(fresh());
  }
  drawPast();
}

function onFeed({ snapshot }) {
  const lead = byId("welcome-lead");
  if (lead && lead.textContent !== leadText(snapshot)) lead.textContent = leadText(snapshot);
  running?.explainPause();
}

const page = () => document.scrollingElement;
const atBottom = () => page().scrollHeight - page().scrollTop - page().clientHeight < 80;
const toBottom = () => page().scrollTo(0, page().scrollHeight);
