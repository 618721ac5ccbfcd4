/** Looks of the player, in the colours of ComfyUI's theme. */

const CSS = `
.asymtalker-live { display: flex; flex-direction: column; gap: 4px; height: 100%; font: 11px sans-serif;
  color: var(--input-text, #ddd); overflow: hidden; }
.asymtalker-live video { flex: 1 1 0; min-height: 0; width: 100%; object-fit: contain; background: #000; border-radius: 4px; }
.asymtalker-live-bar { display: flex; gap: 6px; align-items: center; flex: none; }
.asymtalker-live-bar span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.asymtalker-live-bar button { border: 0; border-radius: 3px; padding: 1px 6px; font: inherit; cursor: pointer;
  background: var(--comfy-input-bg, #222); color: inherit; }
.asymtalker-live[data-live="true"] button { background: #c62828; color: #fff; }
.asymtalker-live-bar button[hidden] { display: none; }
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
