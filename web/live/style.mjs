/** Looks of the player, in the colours of ComfyUI's theme. */

const PICTURE_HEIGHT = 250;
const REST_HEIGHT = 100;
/** Height in a node's own pixels, with the margins that the canvas puts around. */
export const NODE_HEIGHT = PICTURE_HEIGHT + REST_HEIGHT + 20;

const CSS = `
.asymtalker-live { display: flex; flex-direction: column; gap: 4px; height: 100%; box-sizing: border-box;
  min-height: ${PICTURE_HEIGHT + REST_HEIGHT}px; font: 11px sans-serif; color: var(--input-text, #ddd); overflow: hidden; }
.asymtalker-live video { flex: 1 1 ${PICTURE_HEIGHT}px; min-height: ${PICTURE_HEIGHT}px; width: 100%; object-fit: contain;
  background: #000; border-radius: 4px; }
/* Nodes 2.0 shows a node's preview and result below its widgets. */
.lg-node-widgets:has(.asymtalker-live) ~ *:not(.mt-auto) { display: none; }
.asymtalker-live-app { position: absolute; inset: 64px 16px 100px; z-index: 15; background: var(--comfy-menu-bg, #171718); }
.asymtalker-live-app[hidden] { display: none; }
.asymtalker-live-bar { display: flex; gap: 6px; align-items: center; flex: none; }
.asymtalker-live-bar span { overflow: hidden; max-height: 28px; line-height: 14px; }
.asymtalker-live-bar button { border: 0; border-radius: 3px; padding: 1px 6px; font: inherit; cursor: pointer;
  background: var(--comfy-input-bg, #222); color: inherit; }
.asymtalker-live[data-live="true"] button { background: #c62828; color: #fff; }
.asymtalker-live-bar input { flex: 0 0 30%; min-width: 0; height: 14px; margin: 0; }
.asymtalker-live[data-file="true"] video::-webkit-media-controls-timeline { display: none; }
.asymtalker-live-bar [hidden] { display: none; }
.asymtalker-live[data-state="failed"] span { white-space: pre-wrap; max-height: 60px; overflow: auto; }
.asymtalker-drift { display: grid; grid-template-columns: max-content 1fr max-content; gap: 2px 6px; align-items: center;
  flex: none; }
.asymtalker-drift svg { width: 100%; height: 18px; background: var(--comfy-input-bg, #222); border-radius: 2px; }
.asymtalker-drift path { fill: none; stroke-width: 1.5px; vector-effect: non-scaling-stroke; }
.asymtalker-drift path.even { stroke: var(--descrip-text, #999); stroke-width: 1px; stroke-dasharray: 3 3; }
`;

/** Add the style sheet to the page. */
export function addStyle() {
  const style = document.createElement("style");
  style.textContent = CSS;
  document.head.append(style);
}
