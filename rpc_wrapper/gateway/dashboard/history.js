// Conversations, kept in this browser only.

const STORED = "rpc-wrapper.conversations";
const OPTIONS = "rpc-wrapper.options";
const KEPT = 40;

export const defaults = { system: "", max_tokens: 256, temperature: 0.8 };

/** Return the conversations, the newest first: {id, title, messages: [{role, content, stats}]}. */
export function conversations() {
  const found = read(STORED, []);
  return Array.isArray(found) ? found.filter((each) => each && Array.isArray(each.messages)) : [];
}

/** Put a conversation on top; the oldest go when there are too many or the browser has no more room. */
export function keep(conversation) {
  const others = conversations().filter((each) => each.id !== conversation.id);
  for (let count = KEPT; count > 0; count = Math.floor(count / 2)) {
    if (write(STORED, [conversation, ...others].slice(0, count))) return;
  }
}

export function forget(id) {
  write(STORED, conversations().filter((each) => each.id !== id));
}

export function fresh() {
  return { id: `${Date.now()}-${Math.random().toString(36).slice(2, 8)}`, title: "", messages: [] };
}

/** Return the options of the last visit, within their bounds. */
export function options() {
  const found = { ...defaults, ...read(OPTIONS, {}) };
  return {
    system: String(found.system ?? ""),
    max_tokens: bounded(Math.round(found.max_tokens), 1, 1024, defaults.max_tokens),
    temperature: bounded(found.temperature, 0, 2, defaults.temperature),
  };
}

export const keepOptions = (value) => write(OPTIONS, value);

export function bounded(value, least, most, otherwise) {
  return Number.isFinite(value) ? Math.min(most, Math.max(least, value)) : otherwise;
}

function read(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

function write(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}
