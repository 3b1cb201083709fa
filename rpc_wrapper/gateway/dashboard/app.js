// The page: views, theme, key, and the status in the corner.

import { key, onKeyNeeded } from "/dashboard/api.js";
import * as chat from "/dashboard/chat.js";
import * as cluster from "/dashboard/cluster.js";
import { byId } from "/dashboard/dom.js";
import * as events from "/dashboard/events.js";
import { current, follow, watch } from "/dashboard/feed.js";
import * as panel from "/dashboard/panel.js";
import * as plan from "/dashboard/plan.js";

const VIEWS = ["chat", "cluster", "events", "plan"];
const DRAW = { chat: panel.draw, cluster: cluster.draw, events: (state) => events.draw(state, redraw), plan: (state) => plan.draw(state, redraw) };
const THEMES = ["system", "light", "dark"];
const STORED_THEME = "rpc-wrapper.theme";
const CONNECTIONS = { connecting: "connecting", lost: "no connection", locked: "key needed" };

let view = null;

function route() {
  const wanted = location.hash.slice(1);
  const next = VIEWS.includes(wanted) ? wanted : "chat";
  const changed = view !== null && view !== next;
  view = next;
  for (const name of VIEWS) byId(`view-${name}`).hidden = name !== view;
  for (const tab of document.querySelectorAll(".tabs a")) {
    if (tab.hash === `#${view}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${view[0].toUpperCase()}${view.slice(1)} · rpc-wrapper`;
  redraw(); // before the scrolling, which lays the page out
  if (changed) scrollTo(0, view === "chat" ? document.scrollingElement.scrollHeight : 0);
}

function redraw() {
  DRAW[view]?.(current());
}

// The status in the corner, and in words for those who listen.

function drawStatus({ snapshot, connection }) {
  const isLive = connection === "live" && snapshot;
  const state = isLive ? snapshot.state : connection;
  const text = isLive ? snapshot.state : CONNECTIONS[connection] ?? connection;
  if (byId("status").dataset.state === state) return;
  byId("status").dataset.state = state;
  byId("status-text").textContent = text;
  byId("status").title = isLive ? snapshot.reason : text;
  byId("said").textContent = isLive ? `The cluster is ${text}: ${snapshot.reason}` : text;
}

// The theme: the system's, unless somebody chose.

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").setAttribute("aria-label", `Theme: ${theme === "system" ? "as the system" : theme}`);
  byId("theme").title = byId("theme").getAttribute("aria-label");
  byId("theme").dataset.theme = theme;
}

function startTheme() {
  setTheme(THEMES.includes(localStorage.getItem(STORED_THEME)) ? localStorage.getItem(STORED_THEME) : "system");
  byId("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(byId("theme").dataset.theme) + 1) % THEMES.length];
    localStorage.setItem(STORED_THEME, next);
    setTheme(next);
  });
}

// The key: asked for when the server wants one, once for all who wait for it.

let pending = null;

function askKey(rejected) {
  pending ??= new Promise((resolve) => {
    const dialog = byId("key-dialog");
    byId("key-why").textContent = rejected
      ? "The server does not know this key. One of APP_API_KEYS is needed."
      : "One of APP_API_KEYS. It stays in this tab and goes to this server only.";
    byId("key-input").value = "";
    dialog.returnValue = "cancel";
    dialog.addEventListener("close", () => {
      pending = null;
      const given = byId("key-input").value.trim();
      byId("key-input").value = "";
      if (dialog.returnValue === "ok" && given) key.set(given);
      resolve(dialog.returnValue === "ok" && given !== "");
    }, { once: true });
    dialog.showModal();
  });
  return pending;
}

function startKey() {
  onKeyNeeded(askKey);
  byId("key").addEventListener("click", () => askKey(""));
  byId("key-cancel").addEventListener("click", () => byId("key-dialog").close("cancel"));
}

startTheme();
startKey();
chat.start();
panel.start(redraw);
cluster.start(redraw);
events.start(redraw);
addEventListener("hashchange", route);
for (const name of ["links", "engine"]) byId(name).addEventListener("toggle", redraw);
route();
watch(drawStatus);
watch(redraw);
follow();
