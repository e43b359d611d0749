/* The list of patients and slides. */

import { byId, make } from "./api.js";
import { writeAddress } from "./address.js";

const STATES = { absent: "", computing: "map is being computed", ready: "map is ready", failed: "no map" };

export function showList(content, values) {
  document.title = `${content.collection}, dml view`;
  byId("title").textContent = content.collection;
  byId("subtitle").textContent = `${content.model}, ${content.task}`;
  const state = { q: values.get("q") ?? "", sort: values.get("sort") ?? "patient", down: values.get("down") === "1" };
  const filter = byId("filter");
  filter.value = state.q;
  const draw = () => {
    const rows = sorted(content.slides.filter((row) => matches(row, state.q)), state);
    byId("rows").replaceChildren(...rows.map(line));
    const patients = new Set(rows.map((row) => row.patient)).size;
    byId("count").textContent = `${rows.length} slides of ${patients} patients`;
    for (const button of document.querySelectorAll("[data-sort]")) {
      button.removeAttribute("aria-sort");
      if (button.dataset.sort === state.sort) {
        button.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      }
    }
    writeAddress("/", { q: state.q, sort: state.sort === "patient" ? "" : state.sort, down: state.down ? 1 : "" });
  };
  filter.oninput = () => { state.q = filter.value; draw(); };
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.onclick = () => {
      state.down = state.sort === button.dataset.sort ? !state.down : button.dataset.sort === "value";
      state.sort = button.dataset.sort;
      draw();
    };
  }
  draw();
}

function matches(row, text) {
  const all = [row.patient, row.slide, row.status, row.outcome, row.prediction].join(" ").toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => all.includes(word));
}

function sorted(rows, state) {
  const sign = state.down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [a[state.sort], b[state.sort]];
    if (x === null || y === null) return (x === null) - (y === null);
    return sign * (typeof x === "number" ? x - y : x.localeCompare(y, "en", { numeric: true }));
  });
}

function line(row) {
  const address = `#/slide/${row.key}`;
  const picture = row.has_pixels
    ? make("img", { src: `/api/slides/${row.key}/thumbnail.jpg`, alt: "", loading: "lazy", decoding: "async" })
    : make("span", { class: "blank" }, "no pixels");
  const group = row.prediction.startsWith("high ") ? "high" : row.prediction.startsWith("low ") ? "low" : "";
  const status = row.status === "ok" ? STATES[row.map] || "ok" : row.status;
  return make("tr", {},
    make("td", {}, make("a", { href: address, tabIndex: -1 }, picture)),
    make("td", {}, row.patient),
    make("td", {}, make("a", { href: address }, row.slide)),
    make("td", { class: group }, row.prediction || make("span", { class: "soft" }, "when opened")),
    make("td", {}, row.outcome),
    make("td", {}, status));
}
