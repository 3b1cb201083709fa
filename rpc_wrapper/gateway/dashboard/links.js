// The links in detail: what each command took, and how much of the model the workers had in their caches already.

import { h } from "/dashboard/dom.js";
import { bytes, grouped, percent, seconds } from "/dashboard/format.js";

/** Return one part per link: its sums in a line, its commands as a table, the one that was waited for longest first. */
export function linkDetails(links) {
  return links.map((link) => h("section", {}, h("h3", {}, link.endpoint), h("p", { class: "faint" }, sums(link)), h("div", { class: "scroll" }, commands(link))));
}

function sums({ bytes_to_backend, bytes_from_backend, weights_pushed_bytes, weights_found_bytes, connections }) {
  const weights = weights_pushed_bytes + weights_found_bytes;
  const found = weights ? ` (${percent((100 * weights_found_bytes) / weights)})` : "";
  return [
    `${bytes(bytes_to_backend)} to the backend, ${bytes(bytes_from_backend)} back`,
    `weights: ${bytes(weights_pushed_bytes)} sent, ${bytes(weights_found_bytes)} found in its cache${found}`,
    `${grouped(connections)} connections`,
  ].join(" · ");
}

function commands({ commands: totals }) {
  const rows = Object.entries(totals).sort(([, one], [, other]) => other.waited_s - one.waited_s);
  const heads = ["Command", "Count", "Bytes", "Waited", "Each"];
  return h(
    "table",
    {},
    h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(([name, { count, size_bytes, waited_s }]) =>
      h("tr", {}, h("th", { scope: "row" }, name), [grouped(count), bytes(size_bytes), seconds(waited_s), seconds(count ? waited_s / count : 0)].map((text) => h("td", {}, text))))),
  );
}
