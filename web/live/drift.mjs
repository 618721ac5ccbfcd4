/** The drift strip: one small curve a figure over a job's chunks, from 0 up; dashed, where the first chunk was. */

import { text } from "./texts.mjs";

/** Middle tones: at least 3:1 on the backgrounds of light and dark themes. */
const CURVES = [
  { figure: "reference_distance", name: "identity", color: "#4a90d9", digits: 3 },
  { figure: "sharpness", name: "sharpness", color: "#c77a1e", digits: 3 },
  { figure: "color_distance", name: "color", color: "#3f9b6b", digits: 2 },
];

const SVG = "http://www.w3.org/2000/svg";
const HEADROOM = 1.25;

/** [x, y] in 0..1 of every chunk that has the figure; y from 0 at the top. */
function points(chunks, total, figure, top) {
  const span = Math.max(total - 1, 1);
  return chunks
    .filter((chunk) => figure in chunk.stats)
    .map((chunk) => [chunk.index / span, 1 - chunk.stats[figure] / top]);
}

function path(pairs) {
  const drawn = pairs.length === 1 ? [pairs[0], [pairs[0][0] + 0.01, pairs[0][1]]] : pairs;
  return drawn.map(([x, y], i) => `${i ? "L" : "M"}${(100 * x).toFixed(2)} ${(100 * y).toFixed(2)}`).join("");
}

function svgElement(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export class DriftStrip {
  #rows = new Map();

  constructor() {
    this.element = document.createElement("div");
    this.element.className = "asymtalker-drift";
    for (const curve of CURVES) {
      const label = document.createElement("span");
      const svg = svgElement("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none" });
      const value = document.createElement("span");
      label.textContent = text(curve.name);
      label.style.color = curve.color;
      svg.append(svgElement("title", {}));
      svg.firstChild.textContent = label.title = text(`${curve.name}_hint`);
      this.element.append(label, svg, value);
      this.#rows.set(curve, { svg, value });
    }
  }

  /** Draw `chunks` ({index, stats}) of a video of `total` chunks. */
  draw(chunks, total) {
    for (const [curve, { svg, value }] of this.#rows) {
      const values = chunks.map((chunk) => chunk.stats[curve.figure]).filter((number) => number !== undefined);
      const top = HEADROOM * Math.max(...values, 1e-6);
      while (svg.children.length > 1) svg.lastChild.remove();
      if (values.length) {
        const y = 100 * (1 - values[0] / top);
        svg.append(svgElement("path", { d: `M0 ${y}L100 ${y}`, class: "even" }));
        svg.append(svgElement("path", { d: path(points(chunks, total, curve.figure, top)), stroke: curve.color }));
        value.textContent = values.at(-1).toFixed(curve.digits);
      }
    }
  }
}
