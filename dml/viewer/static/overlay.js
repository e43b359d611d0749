/* What is drawn over the slide: layers, grids, the chosen tile, the scale bar. Positions are in microns. */

const BARS_UM = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];
const GRIDS = ["#1b6ca8", "#0b2545", "#5c7c99"];

export class Overlay {
  constructor(canvas) {
    this.canvas = canvas;
    this.levels = [];
    this.layers = [];
    this.grids = [];
    this.level = 0;
    this.tile = null;
  }

  /* centre: microns; z: microns per CSS pixel */
  draw(view) {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    this.view = { ...view, width, height, ratio };
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, ...size);
    for (const layer of this.layers) this.#fill(context, layer);
    context.globalAlpha = 1;
    for (const grid of this.grids) this.#outline(context, grid);
    context.globalAlpha = 1;
    this.#choice(context);
    this.#scaleBar(context);
  }

  /* Device pixels of a tile, rounded so that neighbours meet without a seam. */
  #box(level, i) {
    const { x, y, z, width, height, ratio } = this.view;
    const half = level.tile_um / 2;
    const left = Math.round(((level.x[i] - half - x) / z + width / 2) * ratio);
    const top = Math.round(((level.y[i] - half - y) / z + height / 2) * ratio);
    const right = Math.round(((level.x[i] + half - x) / z + width / 2) * ratio);
    const bottom = Math.round(((level.y[i] + half - y) / z + height / 2) * ratio);
    if (right < 0 || bottom < 0 || left > this.canvas.width || top > this.canvas.height) return null;
    return [left, top, right - left, bottom - top];
  }

  #fill(context, { colours, opacity, level }) {
    const tiles = this.levels[level];
    context.globalAlpha = opacity;
    for (let i = 0; i < tiles.x.length; i++) {
      const box = this.#box(tiles, i);
      if (!box) continue;
      context.fillStyle = colours[i];
      context.fillRect(...box);
    }
  }

  #outline(context, { level, opacity }) {
    const tiles = this.levels[level];
    context.globalAlpha = opacity;
    context.strokeStyle = GRIDS[level % GRIDS.length];
    context.lineWidth = (1 + level) * this.view.ratio;
    context.beginPath();
    for (let i = 0; i < tiles.x.length; i++) {
      const box = this.#box(tiles, i);
      if (box) context.rect(...box);
    }
    context.stroke();
  }

  #choice(context) {
    const tiles = this.levels[this.level];
    const box = tiles && this.tile !== null && this.tile < tiles.x.length ? this.#box(tiles, this.tile) : null;
    if (!box) return;
    const { ratio } = this.view;
    for (const [colour, width] of [["#fff", 5], ["#000", 2.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * ratio;
      context.strokeRect(...box);
    }
  }

  #scaleBar(context) {
    const { z, width, height, ratio } = this.view;
    const fitting = BARS_UM.filter((bar) => bar / z <= Math.min(180, width / 3));
    const bar = fitting[fitting.length - 1] ?? BARS_UM[0];
    const text = bar >= 1000 ? `${bar / 1000} mm` : `${bar} µm`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = "13px system-ui, sans-serif";
    const length = bar / z;
    const box = [12, height - 46, Math.max(length, context.measureText(text).width) + 20, 36];
    context.fillStyle = "rgba(255, 255, 255, .88)";
    context.fillRect(...box);
    context.fillStyle = "#111";
    context.fillRect(22, height - 20, length, 4);
    context.fillText(text, 22, height - 27);
    this.canvas.dataset.scaleBar = text;
  }

  /* The tile under a point, of the resolution that is shown; null beside all. */
  find(x, y) {
    const tiles = this.levels[this.level];
    if (!tiles) return null;
    const half = tiles.tile_um / 2;
    for (let i = 0; i < tiles.x.length; i++) {
      if (Math.abs(tiles.x[i] - x) <= half && Math.abs(tiles.y[i] - y) <= half) return i;
    }
    return null;
  }
}

/* The colour of each value, as matplotlib assigns it. */
export function colourOf({ values, low, high, colours }) {
  const last = colours.length - 1;
  return values.map((value) => {
    if (value === null) return "rgba(0, 0, 0, 0)";
    const index = Math.floor(((value - low) / (high - low)) * colours.length);
    return colours[Math.min(last, Math.max(0, index))];
  });
}
