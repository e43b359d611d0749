/* Shows the page of the address, and reads the keys. */

import { byId, getJson, showError } from "./api.js";
import { readAddress } from "./address.js";
import { showList } from "./list.js";
import { SlidePage } from "./slide.js";

let page = null;
let keys = [];

async function open() {
  const address = readAddress();
  showError(null);
  if (page && address.page === "slide" && page.key === address.key) return;
  document.body.dataset.state = "loading";
  page?.close();
  page = null;
  byId("gallery").hidden = true;
  byId("list").hidden = address.page !== "list";
  byId("slide").hidden = address.page !== "slide";
  try {
    if (address.page === "list") {
      const content = await getJson("/api/slides");
      keys = content.slides.map((row) => row.key);
      showList(content, address.values);
      document.body.dataset.state = "ready";
    } else {
      page = new SlidePage(address.key, address.values);
      await page.open();
    }
  } catch (error) {
    showError(error);
    document.body.dataset.state = "failed";
  }
}

async function step(by) {
  if (!keys.length) keys = (await getJson("/api/slides")).slides.map((row) => row.key);
  const next = keys[(keys.indexOf(page.key) + by + keys.length) % keys.length];
  location.hash = `#/slide/${next}`;
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox") return;
  if (byId("help").open) return;
  if (event.key === "?") byId("help").showModal();
  else if (!page) return;
  else if (event.key === "n") step(1);
  else if (event.key === "p") step(-1);
  else if (event.key === "l" || event.key === "Escape") location.hash = "#/";
  else if (!page.onKey(event)) return;
  event.preventDefault();
}

window.addEventListener("hashchange", open);
document.addEventListener("keydown", onKey);
byId("help-button").addEventListener("click", () => byId("help").showModal());
open();
