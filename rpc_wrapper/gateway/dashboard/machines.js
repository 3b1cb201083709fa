// Join what a snapshot says of each backend in five places into one row per backend. Pure.

export const WORDS = { up: "up", starting: "starting", silent: "agent silent", frozen: "frozen", down: "down", quarantine: "quarantine" };

/** Return {server, backends, stageSeconds}: the rows in the order of the list. */
export function machines(snapshot) {
  const rows = snapshot.backends.map((backend) => backendRow(snapshot, backend));
  const total = rows.reduce((sum, row) => sum + row.waited, 0);
  for (const row of rows) row.share = total > 0 ? row.waited / total : null;
  return { server: serverRow(snapshot), backends: rows };
}

function backendRow(snapshot, backend) {
  const address = backend.address;
  const parts = (snapshot.plan?.assignments ?? []).filter((each) => each.endpoint === address);
  const link = (snapshot.links ?? []).find((each) => each.endpoint === address);
  const node = (snapshot.nodes ?? []).find((each) => each.name === address);
  return {
    name: nameOf(snapshot, backend),
    address,
    ...stateOf(backend, node),
    parts,
    used: heldBytes(snapshot, address, parts),
    budget: budgetOf(backend, parts),
    cpu: node?.cpu_percent ?? null,
    memory: node?.rss_bytes ?? null,
    gpus: node?.gpus ?? [],
    restarts: node?.restarts ?? null,
    rtt: link?.rtt_s ?? null,
    traffic: link ? link.bytes_to_backend_per_s + link.bytes_from_backend_per_s : null,
    perToken: link?.recent_stage_s ?? null,
    waited: link?.recent_stage_s ? link.recent_stage_s * link.recent_stages : 0,
    simulated: link?.simulated ?? null,
    isBusy: (link?.recent_stages ?? 0) > 0,
  };
}

/** A name stands for its one address; where it has several the addresses tell them apart. */
function nameOf(snapshot, backend) {
  const isShared = snapshot.backends.filter((each) => each.endpoint === backend.endpoint).length > 1;
  return isShared ? backend.address : backend.endpoint;
}

/** What was seen last counts: the agent's word, then the quarantine, then the probe of the last start. */
function stateOf(backend, node) {
  const held = backend.quarantine;
  if (held && (node?.state ?? "up") === "up") return { state: "quarantine", detail: quarantineText(held) };
  if (node) return { state: node.state, detail: node.detail };
  return { state: backend.state === "ok" || backend.state === "busy" ? "up" : "down", detail: backend.detail };
}

const quarantineText = ({ answered, needed, reason }) => `${answered} of ${needed} probes answered; ${reason}`;

function heldBytes(snapshot, address, parts) {
  const loaded = parts.map((each) => snapshot.loaded?.[each.index ? `${address}#${each.index}` : address]);
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  if (parts.length && loaded.every(Boolean)) return sum(loaded.map(totalBytes));
  return sum(parts.map((each) => each.weights_bytes + each.kv_bytes + each.compute_bytes));
}

function budgetOf(backend, parts) {
  if (backend.budget_mib !== null && backend.budget_mib !== undefined) return backend.budget_mib * 1024 * 1024;
  const planned = parts.reduce((total, each) => total + each.budget_bytes, 0);
  return planned || backend.devices.reduce((total, each) => total + each.free_bytes, 0) || null;
}

export const totalBytes = (held) => held.model_bytes + held.kv_bytes + held.compute_bytes + held.output_bytes;

function serverRow(snapshot) {
  const node = (snapshot.nodes ?? []).find((each) => each.name === "server");
  const parts = (snapshot.plan?.assignments ?? []).filter((each) => each.endpoint === null);
  const own = Object.entries(snapshot.loaded ?? {}).filter(([label]) => !snapshot.backends.some((each) => label.split("#")[0] === each.address));
  return {
    name: "server",
    parts,
    used: own.reduce((total, [, held]) => total + totalBytes(held), 0),
    cpu: node?.cpu_percent ?? null,
    memory: node?.rss_bytes ?? null,
    gpus: node?.gpus ?? [],
  };
}
