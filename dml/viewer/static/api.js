/* Requests to this machine, and small helpers for the page. */

export async function getJson(path) {
  const response = await fetch(path, { credentials: "same-origin" });
  if (response.status === 403) throw new Error("The session has ended: open the address that dml view printed.");
  const content = await response.json();
  if (!response.ok) throw new Error(content.error ?? `${response.status} ${response.statusText}`);
  return content;
}

export const byId = (id) => document.getElementById(id);

/* An element with text and attributes; text is never HTML. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function signed(value) {
  const text = short(value);
  return value > 0 ? `+${text}` : text;
}

export function short(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 0.001 && size < 10000 ? Number(value.toPrecision(3)).toString() : value.toExponential(1);
  return text.replace("-", "−");
}

export function showError(error) {
  const line = byId("error");
  line.textContent = error ? error.message ?? String(error) : "";
  line.hidden = !error;
}
