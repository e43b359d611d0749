/* The panels beside the slide: prediction, layers, legend, numbers and pictures of a tile, strongest tiles. */

import { byId, make, short, signed } from "./api.js";

const NAMES = { tumor: "tumor", tme: "microenvironment", linear: "linear offset", total: "sum" };
const GROUPS = { base: "Slide", contribution: "Contribution", attention: "Attention", deviation: "Uncertainty",
  measured: "Measured at the spots" };
export const nameOf = (branch) => NAMES[branch] ?? branch;

export function showPrediction(slide, map) {
  const rows = map.prediction.map((row) => make("tr", {}, make("td", {}, row.name), number(row.text)));
  const sums = Object.entries(map.sums).map(([name, value]) =>
    make("tr", {}, make("td", {}, name === "reference" ? "reference (mean tissue)" : nameOf(name)),
      number(signed(value))));
  byId("prediction").replaceChildren(
    make("p", { class: "headline" }, map.headline),
    slide.outcome ? make("p", { class: "soft" }, `known: ${slide.outcome}`) : "",
    make("table", {}, make("tbody", {}, ...rows)),
    make("details", {}, make("summary", {}, `Sums of ${map.output}, ${map.unit}`),
      make("table", {}, make("tbody", {}, ...sums)),
      make("p", { class: "soft" }, `Over ${map.slides} slide(s) of the patient; ${map.members} members of ` +
        `${map.folds} fold(s) that never saw the patient.`)));
}

function number(text) {
  return make("td", { class: "number" }, text);
}

export function showLayers(layers, onChange) {
  const lines = [];
  let group = null;
  layers.forEach((layer, i) => {
    const heading = GROUPS[layer.quantity === "difference" ? "contribution" : layer.quantity];
    if (heading !== group) lines.push(make("p", { class: "group" }, heading));
    group = heading;
    const box = make("input", { type: "checkbox", id: `layer-${layer.id}`, checked: layer.on });
    const range = make("input", { type: "range", min: 0, max: 1, step: 0.05, title: "opacity" });
    range.value = layer.opacity;
    range.setAttribute("aria-label", `opacity of ${layer.label}`);
    box.onchange = () => { layer.on = box.checked; onChange(layer); };
    range.oninput = () => { layer.opacity = Number(range.value); layer.on = true; box.checked = true; onChange(layer); };
    const label = make("label", { htmlFor: box.id }, layer.label, " ");
    if (i < 9) label.append(make("span", { class: "key" }, String(i + 1)));
    layer.controls = { box, range };
    lines.push(make("div", { class: "layer" }, box, label, range));
  });
  byId("layers").replaceChildren(...lines);
}

export function showLegend(shown) {
  byId("legend").replaceChildren(...shown.map(({ layer, content, mpp }) => {
    const canvas = make("canvas", { width: content.colours.length, height: 1 });
    const context = canvas.getContext("2d");
    content.colours.forEach((colour, i) => { context.fillStyle = colour; context.fillRect(i, 0, 1, 1); });
    const middle = (content.low + content.high) / 2;
    const form = content.low < 0 ? signed : short;
    const ticks = [content.low, middle, content.high].map((value) => make("span", {}, form(value)));
    const ends = content.low < 0 ? make("div", { class: "ticks soft" }, make("span", {}, "lowers"),
      make("span", {}, "raises")) : "";
    return make("div", { class: "scale" }, make("div", {}, `${layer.label} `,
      make("span", { class: "soft" }, `(${layer.unit}, ${mpp} µm/px)`)),
      canvas, make("div", { class: "ticks" }, ...ticks), ends);
  }));
}

export function showTile(slide, level, content, unit, output) {
  if (!content) {
    byId("tile").replaceChildren(make("p", { class: "soft" }, "Click a tile for its numbers."));
    return;
  }
  const head = ["", "contribution", "±", "rank", "attention"].map((text, i) =>
    make("th", { class: i ? "number" : "" }, text));
  const rows = content.branches.map((row) => make("tr", { "data-branch": row.branch }, make("td", {}, nameOf(row.branch)),
    number(signed(row.contribution)), number(short(row.deviation)), number(String(row.rank)),
    number(row.branch === "linear" ? "–" : `${short(row.attention)}×`)));
  const millimetres = [content.x_um, content.y_um].map((at) => (at / 1000).toFixed(2)).join(", ");
  const pictures = slide.has_pixels ? content.pictures.map((mpp, i) => make("figure", {},
    make("img", { src: pictureAddress(slide.key, level, content.tile, i), alt: `tissue at ${mpp} microns per pixel` }),
    make("figcaption", {}, `${mpp} µm/px`))) : [make("p", { class: "soft" }, "No pixels: imported features.")];
  byId("tile").replaceChildren(
    make("h2", {}, `Tile ${content.tile} of ${content.tiles}, ${content.tile_um} µm, at ${millimetres} mm`),
    make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...rows)),
    make("p", { class: "soft" }, `Contribution to ${output} in ${unit}; ± between members; attention: 1× is an equal share.`),
    make("div", { class: "pictures" }, ...pictures));
}

const pictureAddress = (key, level, tile, at) => `/api/slides/${key}/tiles/${level}/${tile}/${at}.jpg`;

export function showGallery(slide, level, content, unit, onChoose) {
  const strips = content.flatMap((row) => ["top", "bottom"].filter((end) => row[end].length).map((end) =>
    make("div", { class: "strip", "data-branch": row.branch, "data-end": end },
      make("span", {}, end === "top" ? "highest" : "lowest"),
      ...row[end].map((tile) => {
        const picture = slide.has_pixels
          ? make("img", { src: pictureAddress(slide.key, level, tile.tile, level), alt: `tile ${tile.tile}`, loading: "lazy" })
          : make("span", { class: "blank" }, "");
        const button = make("button", { type: "button" }, picture, make("small", {}, signed(tile.value)));
        button.onclick = () => onChoose(tile.tile);
        return button;
      }))));
  const titles = content.map((row) => make("h2", {}, `Contribution of ${nameOf(row.branch)} (${unit})`));
  const children = [];
  let at = 0;
  content.forEach((row, i) => {
    const count = ["top", "bottom"].filter((end) => row[end].length).length;
    children.push(titles[i], ...strips.slice(at, at + count));
    at += count;
  });
  byId("gallery").replaceChildren(...children);
  byId("gallery").hidden = false;
}
