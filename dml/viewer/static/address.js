/* The state of a view in the address: #/ for the list, #/slide/<key>?... for a slide. */

export function readAddress() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?");
  const [, page, key] = path.split("/");
  const values = new URLSearchParams(query);
  return page === "slide" && key ? { page: "slide", key: decodeURIComponent(key), values } : { page: "list", values };
}

export function writeAddress(path, values) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && value !== undefined && value !== "") query.set(name, value);
  }
  const text = query.toString().replaceAll("%2C", ",").replaceAll("%3A", ":");
  const hash = `#${path}${text ? `?${text}` : ""}`;
  if (location.hash !== hash) history.replaceState(null, "", hash);
}
