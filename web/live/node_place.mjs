/** A player on a node, in either canvas. */

import { app } from "../../../scripts/app.js";
import { dropPreviews, hidePictures } from "./previews.mjs";
import { NODE_HEIGHT } from "./style.mjs";

const WIDGET = "asymtalker_live";
/** If the node is larger than the player needs, the user has resized it. */
const SLACK = 40;

/** Call `hook` whenever the node's method has been called. Returns a function that ends it. */
function after(node, method, hook) {
  const before = node[method];
  let isOn = true;
  const chained = function (...args) {
    const answer = before?.apply(this, args);
    if (isOn) hook(...args);
    return answer;
  };
  node[method] = chained;
  return () => {
    isOn = false;
    // Another extension may have hooked it since.
    if (node[method] === chained) node[method] = before;
  };
}

export class NodePlace {
  #size;
  #widget;
  #showPictures;
  #unhook;

  /** `onRemoved()`: the node is gone. */
  constructor(node, player, onRemoved) {
    this.node = node;
    this.#size = [...node.size];
    this.#showPictures = hidePictures(node);
    this.#widget = node.addDOMWidget(WIDGET, WIDGET, player.element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => NODE_HEIGHT,
    });
    // Not part of saved workflows or queued prompts.
    this.#widget.serialize = false;
    this.#unhook = [
      // Workflows saved in the meantime keep the node's own size.
      after(node, "onSerialize", (data) => (data.size = this.#sizeWithoutPlayer())),
      after(node, "onRemoved", onRemoved),
      // The canvas adds the node's preview while it draws the node, as soon as the picture is loaded.
      after(node, "onDrawBackground", () => player.isSeen && this.dropPreviews()),
    ];
    this.#grow();
    player.element.addEventListener("wheel", this.#onWheel, { passive: false });
  }

  dropPreviews() {
    dropPreviews(this.node);
  }

  /** Restore the node. */
  close() {
    const { node } = this;
    this.#widget.element.removeEventListener("wheel", this.#onWheel);
    if (node.widgets?.includes(this.#widget)) node.removeWidget(this.#widget);
    this.#showPictures();
    for (const unhook of this.#unhook) unhook();
    const size = this.#sizeWithoutPlayer();
    if (node.graph && size[1] !== node.size[1]) node.setSize(size);
    app.canvas?.setDirty(true, true);
  }

  #sizeWithoutPlayer() {
    const [width, height] = this.node.size;
    const [, before] = this.#size;
    return [width, height > before + NODE_HEIGHT + SLACK ? height : Math.min(height, before)];
  }

  #grow() {
    const { node } = this;
    const [width, height] = node.computeSize();
    node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
    app.canvas?.setDirty(true, true);
  }

  /** Pass wheel events to the canvas, which zooms. Nodes 2.0 does that itself for everything in a node's element. */
  #onWheel = (event) => {
    if (event.currentTarget.closest("[data-node-id]")) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  };
}
