// Talk to the gateway: the key, errors as sentences, and server-sent events over fetch (EventSource sends no headers).

const STORED_KEY = "rpc-wrapper.key";

export class Failure extends Error {
  constructor(message, status, code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const key = {
  get: () => sessionStorage.getItem(STORED_KEY) ?? "",
  set(value) {
    sessionStorage.setItem(STORED_KEY, value);
    asking.waiting.splice(0).forEach((resolve) => resolve());
  },
  /** Resolve as soon as there is a new key. */
  change: () => new Promise((resolve) => asking.waiting.push(resolve)),
};

const asking = { who: null, waiting: [] };

/** Say who asks the user for a key; it returns a promise of whether there is a new one. */
export function onKeyNeeded(ask) {
  asking.who = ask;
}

/** Send a request; a missing or wrong key is asked for and the request sent again. Throws Failure. */
export async function request(path, options = {}) {
  for (;;) {
    const used = key.get();
    const headers = { ...options.headers, ...(used ? { Authorization: `Bearer ${used}` } : {}) };
    const response = await fetch(path, { ...options, headers, cache: "no-store" });
    if (response.ok) return response;
    if (response.status !== 401) throw await failure(response);
    if (key.get() === used && !(await asking.who(used))) throw await failure(response);
  }
}

async function failure(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // not JSON: the status has to do
  }
  return new Failure(error.message ?? `The server answered ${response.status}.`, response.status, error.code);
}

/** Yield the events of a response: {id, event, data} or {comment}. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) yield parse(block);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(block) {
  const event = { event: "message", data: "", comment: "" };
  const data = [];
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "") event.comment = value;
    else if (name === "data") data.push(value);
    else if (name === "id" || name === "event") event[name] = value;
  }
  event.data = data.join("\n");
  return event;
}
