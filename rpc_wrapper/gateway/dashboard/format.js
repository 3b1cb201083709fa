// Numbers and times as people read them.

const MIB = 1024 * 1024;

// Made once: a formatter costs far more than what it formats, and hundreds of figures are drawn at a time.
const TIME = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });
const NUMBERS = [0, 1].map((digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));

/** "21 MiB", "4.0 GiB". */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  if (count >= 1024 * MIB) return `${grouped(count / (1024 * MIB), 1)} GiB`;
  if (count >= MIB) return `${grouped(count / MIB, count < 10 * MIB ? 1 : 0)} MiB`;
  return count >= 1024 ? `${Math.round(count / 1024)} KiB` : `${Math.round(count)} B`;
}

/** Two amounts of one unit: "21 of 2,048 MiB". */
export function ofBudget(used, budget) {
  const large = budget >= 10 * 1024 * MIB;
  const unit = large ? 1024 * MIB : MIB;
  const shown = grouped(used / unit, used / unit < 10 ? 1 : 0);
  return `${shown} of ${grouped(budget / unit, 0)} ${large ? "GiB" : "MiB"}`;
}

/** "12 ms", "0.84 s", "3 min 20 s", "2 h 5 min". */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value) && value < 60) return `${value} s`;
  if (value < 0.1) return `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms`;
  if (value < 10) return `${value.toFixed(2)} s`;
  if (value < 60) return `${value.toFixed(1)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.floor(value % 60)} s`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

export const percent = (value, digits = 0) => (value === null || value === undefined ? "–" : `${value.toFixed(digits)} %`);
export const rate = (perSecond) => (perSecond === null || perSecond === undefined ? "–" : perSecond.toFixed(perSecond < 100 ? 1 : 0));
/** "GPU 43 % · 5.1 of 8 GiB", of several each with its number; nothing without any. */
export function gpuText(gpus) {
  const each = ({ index, busy, used_bytes, total_bytes }) => `GPU${gpus.length > 1 ? ` ${index}` : ""} ${percent(busy === null ? null : 100 * busy)} · ${ofBudget(used_bytes, total_bytes)}`;
  return gpus.map(each).join("; ");
}

/** "2,048", with no digit after the point or one. */
export const grouped = (value, digits = 0) => NUMBERS[digits].format(value);
export const plural = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;

/** "14:03:07", with the day in front of it when that is not today. */
export function clock(unixSeconds) {
  const date = new Date(unixSeconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return today ? TIME.format(date) : `${DAY.format(date)} ${TIME.format(date)}`;
}

/** Blocks of an assignment: "0–2", "7 + output", "output". */
export function blocks(assignment) {
  const { first_block: first, last_block: last, has_output: output } = assignment;
  if (last < first) return output ? "output" : "none";
  const range = first === last ? `${first}` : `${first}–${last}`;
  return output ? `${range} + output` : range;
}
