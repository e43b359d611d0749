/* One slide: deep zoom, layers over it, and the state of both in the address. */

import { byId, getJson, make, showError } from "./api.js";
import { writeAddress } from "./address.js";
import { colourOf, Overlay } from "./overlay.js";
import { showGallery, showLayers, showLegend, showPrediction, showTile } from "./panel.js";

const POLL_MS = 500;
const SHOWN = { "contribution-total": 0.6 };
const PANELS = ["prediction", "layers", "legend", "tile", "gallery", "levels"];

export class SlidePage {
  constructor(key, values) {
    this.key = key;
    this.api = `/api/slides/${encodeURIComponent(key)}`;
    this.level = Number(values.get("level") ?? 0);
    this.tile = values.has("tile") ? Number(values.get("tile")) : null;
    this.output = values.get("output");
    this.asked = values.has("layers") ? parseLayers(values.get("layers")) : SHOWN;
    this.tissue = Number(values.get("tissue") ?? 1);
    this.start = ["x", "y", "z"].map((name) => parseFloat(values.get(name)));
    this.overlay = new Overlay(byId("overlay"));
    this.layers = [];
    this.closed = false;
  }

  async open() {
    for (const id of PANELS) if (id !== "levels") byId(id).replaceChildren();
    byId("settings").hidden = true;
    byId("title").textContent = "";
    byId("subtitle").textContent = "";
    this.slide = await this.#describe();
    if (this.closed) return;
    document.title = `${this.slide.slide}, dml view`;
    byId("title").textContent = this.slide.slide;
    const pixels = this.slide.has_pixels ? `${this.slide.mpp.toPrecision(3)} µm/px` : "no pixels, map on coordinates";
    byId("subtitle").textContent = `patient ${this.slide.patient}, ${pixels}`;
    this.#openViewer();
    try {
      await this.#openMap();
    } catch (error) {
      if (this.closed) return;
      showError(error);
      this.#say(null);
      this.#setState("no-map");
      showLayers(this.layers = [this.#tissueLayer()], () => this.#onLayer());
    }
  }

  async #describe() {
    for (;;) {
      try {
        return await getJson(this.api);
      } catch (error) {
        if (this.closed || !/being computed/.test(error.message)) throw error;
        this.#say("The map is being computed …");
        await new Promise((done) => setTimeout(done, POLL_MS));
      }
    }
  }

  #setState(state) {
    this.state = state;
    const loaded = this.viewer?.world.getItemAt(0)?.getFullyLoaded() ?? false;
    document.body.dataset.state = loaded ? state : "loading";
    if (loaded) performance.mark(`dml-${state}`);
  }

  #openViewer() {
    const { width, height, max_level: maxLevel, key } = this.slide;
    const source = {
      width, height, tileSize: 256, tileOverlap: 0, minLevel: 0, maxLevel,
      getTileUrl: (level, x, y) => `/api/slides/${key}/deepzoom/${level}/${x}_${y}.jpg`,
    };
    this.viewer = OpenSeadragon({
      element: byId("osd"), tileSources: source, drawer: "canvas", showNavigationControl: false, showNavigator: true,
      navigatorPosition: "TOP_RIGHT", navigatorSizeRatio: 0.16, minZoomImageRatio: 0.5, maxZoomPixelRatio: 8,
      visibilityRatio: 0.3, animationTime: 0.3, gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      imageLoaderLimit: 6, minPixelRatio: 0.7, opacity: this.tissue,
    });
    this.viewer.addHandler("open", () => {
      const image = this.viewer.world.getItemAt(0);
      image.addHandler("fully-loaded-change", () => this.#setState(this.state ?? "loading"));
      if (this.start.every(Number.isFinite)) this.#goTo(...this.start, true);
      this.#draw();
    });
    for (const name of ["update-viewport", "resize"]) this.viewer.addHandler(name, () => this.#draw());
    this.viewer.addHandler("animation-finish", () => this.#write());
    this.viewer.addHandler("canvas-click", (event) => event.quick && this.#onClick(event.position));
    this.viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; });
    byId("zoom-in").onclick = () => this.#zoom(1.5);
    byId("zoom-out").onclick = () => this.#zoom(1 / 1.5);
    byId("zoom-home").onclick = () => this.viewer.viewport.goHome();
  }

  /* Middle of the view in microns, and microns per CSS pixel. */
  #view() {
    const { viewport } = this.viewer;
    const image = this.viewer.world.getItemAt(0);
    const centre = image.viewportToImageCoordinates(viewport.getCenter(true));
    const across = image.viewportToImageCoordinates(viewport.getBounds(true).getTopRight()).x
      - image.viewportToImageCoordinates(viewport.getBounds(true).getTopLeft()).x;
    const { mpp } = this.slide;
    return { x: centre.x * mpp, y: centre.y * mpp, z: (across * mpp) / viewport.getContainerSize().x };
  }

  #goTo(x, y, z, immediately = false) {
    const { viewport } = this.viewer;
    const image = this.viewer.world.getItemAt(0);
    const { mpp } = this.slide;
    const size = viewport.getContainerSize();
    const [width, height] = [(size.x * z) / mpp, (size.y * z) / mpp];
    const bounds = image.imageToViewportRectangle(x / mpp - width / 2, y / mpp - height / 2, width, height);
    viewport.fitBounds(bounds, immediately);
  }

  #draw() {
    if (this.closed || !this.viewer.world.getItemAt(0)) return;
    this.overlay.draw(this.#view());
  }

  #zoom(by) {
    this.viewer.viewport.zoomBy(by);
    this.viewer.viewport.applyConstraints();
  }

  async #openMap() {
    const query = this.output ? `?output=${encodeURIComponent(this.output)}` : "";
    for (;;) {
      this.map = await getJson(`${this.api}/map${query}`);
      if (this.closed || this.map.state === "ready") break;
      if (this.map.state === "refused") throw new Error(this.map.error);
      this.#say("The map is being computed …");
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
    if (this.closed) return;
    this.#say(null);
    this.output = this.map.output;
    this.level = Math.min(Math.max(0, this.level || 0), this.map.levels.length - 1);
    this.overlay.levels = this.map.levels;
    showPrediction(this.slide, this.map);
    this.#showSettings();
    this.layers = [this.#tissueLayer(), ...this.#gridLayers(), ...this.map.layers.map((layer) => ({ ...layer }))];
    for (const layer of this.layers.slice(1)) {
      layer.on = layer.id in this.asked;
      layer.opacity = this.asked[layer.id] ?? 0.6;
    }
    showLayers(this.layers, (layer) => this.#onLayer(layer));
    await this.#refresh();
    this.#setState("ready");
  }

  #tissueLayer() {
    return { id: "tissue", label: "Tissue", quantity: "base", on: this.tissue > 0, opacity: this.tissue || 1 };
  }

  #gridLayers() {
    return this.map.levels.map((level, i) => ({
      id: `grid-${i}`, label: `Grid ${level.mpp} µm/px (${level.x.length} tiles)`, quantity: "base", level: i,
    }));
  }

  #showSettings() {
    byId("settings").hidden = false;
    const select = byId("output");
    byId("output-label").hidden = this.map.outputs.length < 2;
    select.replaceChildren(...this.map.outputs.map((name) => make("option", { value: name }, name)));
    select.value = this.output;
    select.onchange = () => { this.output = select.value; this.#keepLayers(); this.#reopen(); };
    const buttons = this.map.levels.map((level, i) => {
      const radio = make("input", { type: "radio", name: "level", id: `level-${i}`, checked: i === this.level });
      radio.onchange = () => this.#setLevel(i);
      return make("label", {}, radio, ` ${level.mpp} µm/px`);
    });
    byId("levels").replaceChildren(byId("levels").querySelector("legend") ?? make("legend", {}, "Tiles"), ...buttons);
    byId("gallery-button").onclick = () => this.#toggleGallery();
  }

  #keepLayers() {
    const shown = this.layers.filter((layer) => layer.on && layer.id !== "tissue");
    this.asked = Object.fromEntries(shown.map((layer) => [layer.id, layer.opacity]));
  }

  #reopen() {
    this.#openMap().catch(showError);
  }

  async #setLevel(level) {
    this.level = level;
    this.tile = null;
    byId(`level-${level}`).checked = true;
    byId("gallery").hidden = true;
    await this.#refresh();
  }

  /* Read what the shown layers need, then draw. */
  async #refresh() {
    this.#setState("loading");
    const query = `?output=${encodeURIComponent(this.output)}`;
    const maps = this.layers.filter((layer) => layer.on && layer.quantity !== "base");
    const level = this.level;
    const contents = await Promise.all(maps.map((layer) => this.#content(layer, level, query)));
    const tile = this.tile === null ? null : await getJson(`${this.api}/tiles/${level}/${this.tile}${query}`);
    if (this.closed || level !== this.level) return;
    this.overlay.level = level;
    this.overlay.tile = this.tile;
    this.overlay.layers = maps.map((layer, i) => ({ colours: contents[i].tiles, opacity: layer.opacity, level }));
    this.overlay.grids = this.layers.filter((layer) => layer.on && layer.id.startsWith("grid-"));
    this.viewer.world.getItemAt(0)?.setOpacity(this.tissue);
    const { mpp } = this.map.levels[level];
    showLegend(maps.map((layer, i) => ({ layer, content: contents[i], mpp })));
    showTile(this.slide, level, tile, this.map.unit, this.output);
    this.#draw();
    this.#write();
    this.#setState("ready");
  }

  async #content(layer, level, query) {
    this.contents ??= new Map();
    const address = `${this.api}/layers/${layer.id}/${level}${query}`;
    if (!this.contents.has(address)) {
      const content = await getJson(address);
      this.contents.set(address, { ...content, tiles: colourOf(content) });
    }
    return this.contents.get(address);
  }

  #onLayer(layer = this.layers[0]) {
    this.last = layer;
    if (layer.id === "tissue") {
      this.tissue = layer.on ? layer.opacity : 0;
      this.viewer.world.getItemAt(0)?.setOpacity(this.tissue);
    }
    if (this.map?.state === "ready") this.#refresh().catch(showError);
  }

  #onClick(position) {
    if (this.map?.state !== "ready") return;
    const { x, y, z } = this.#view();
    const size = this.viewer.viewport.getContainerSize();
    this.#choose(this.overlay.find(x + (position.x - size.x / 2) * z, y + (position.y - size.y / 2) * z));
  }

  #choose(tile) {
    this.tile = tile;
    this.#refresh().catch(showError);
  }

  async #toggleGallery() {
    const gallery = byId("gallery");
    if (!gallery.hidden) { gallery.hidden = true; return; }
    const content = await getJson(`${this.api}/gallery/${this.level}?output=${encodeURIComponent(this.output)}`);
    showGallery(this.slide, this.level, content, this.map.unit, (tile) => {
      const level = this.map.levels[this.level];
      const z = (level.tile_um * 6) / this.viewer.viewport.getContainerSize().y;
      this.#goTo(level.x[tile], level.y[tile] + level.tile_um, z);
      this.#choose(tile);
    });
  }

  #write() {
    if (this.closed || !this.viewer.world.getItemAt(0)) return;
    const { x, y, z } = this.#view();
    const shown = this.layers.filter((layer) => layer.on && layer.id !== "tissue");
    writeAddress(`/slide/${this.key}`, {
      x: x.toFixed(1), y: y.toFixed(1), z: z.toPrecision(5), level: this.level || "", tile: this.tile,
      layers: this.map?.state === "ready" ? shown.map((layer) => `${layer.id}:${layer.opacity}`).join(",") || "none" : "",
      tissue: this.tissue === 1 ? "" : this.tissue, output: (this.map?.outputs?.length ?? 1) > 1 ? this.output : "",
    });
  }

  #say(text) {
    byId("progress").hidden = !text;
    byId("progress").textContent = text ?? "";
  }

  /* Returns whether the key meant something. */
  onKey({ key }) {
    const { viewport } = this.viewer ?? {};
    if (!viewport) return false;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (key in moves) {
      const { width, height } = viewport.getBounds();
      viewport.panBy(new OpenSeadragon.Point((moves[key][0] * width) / 6, (moves[key][1] * height) / 6));
      viewport.applyConstraints();
    } else if (key === "+" || key === "=") this.#zoom(1.5);
    else if (key === "-") this.#zoom(1 / 1.5);
    else if (key === "0") viewport.goHome();
    else if (this.map?.state !== "ready") return false;
    else if (/^[1-9]$/.test(key) && this.layers[key - 1]) this.layers[key - 1].controls.box.click();
    else if (key === "[" || key === "]") this.#fade(key === "]" ? 0.1 : -0.1);
    else if (key === "m") this.#setLevel((this.level + 1) % this.map.levels.length).catch(showError);
    else if (key === "g") this.#toggleGallery().catch(showError);
    else if (key === "Enter" && document.activeElement?.tagName !== "BUTTON") {
      const { x, y } = this.#view();
      this.#choose(this.overlay.find(x, y));
    } else return false;
    return true;
  }

  #fade(by) {
    const layer = this.last ?? this.layers.find((each) => each.on && each.quantity !== "base");
    if (!layer) return;
    const { range } = layer.controls;
    range.value = Math.min(1, Math.max(0, Number(range.value) + by));
    range.dispatchEvent(new Event("input"));
  }

  close() {
    this.closed = true;
    this.#say(null);
    this.viewer?.destroy();
    const context = this.overlay.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.overlay.canvas.width, this.overlay.canvas.height);
  }
}

function parseLayers(text) {
  if (text === "none") return {};
  return Object.fromEntries(text.split(",").map((part) => {
    const at = part.lastIndexOf(":");
    const opacity = parseFloat(part.slice(at + 1));
    return at > 0 && Number.isFinite(opacity) ? [part.slice(0, at), Math.min(1, Math.max(0, opacity))] : [part, 0.6];
  }));
}
