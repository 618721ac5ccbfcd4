/** ComfyUI's own preview area of a node, which the player replaces. */

import { app } from "../../../scripts/app.js";

/** Widgets in which the canvas shows a node's preview and its result. Nodes 2.0 shows both elsewhere: see style.mjs. */
const PREVIEW = "$$canvas-image-preview";
const RESULT = "video-preview";

/** Discard the previews that arrived for a node during generation. */
export function dropPreviews(node) {
  const { graph } = node;
  const locator = graph === app.graph ? String(node.id) : `${graph?.id}:${node.id}`;
  delete app.nodePreviewImages?.[locator];
  const widget = node.widgets?.find(({ name }) => name === PREVIEW);
  if (!widget) return;
  node.imgs = undefined;
  node.removeWidget(widget);
}

/** Hide the node's own preview. Returns a function that shows it again. */
export function hidePictures(node) {
  dropPreviews(node);
  const hidden = (node.widgets ?? []).filter((widget) => widget.name === RESULT && !widget.hidden);
  for (const widget of hidden) widget.hidden = true;
  return () => {
    for (const widget of hidden) widget.hidden = false;
  };
}
