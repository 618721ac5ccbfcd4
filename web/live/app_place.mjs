/** A player in ComfyUI's app mode, shown over the preview. */

const PANEL = "linearCenterPanel";
const FINISHED = '[data-testid="linear-history-item"]';
const IN_PROGRESS = '[data-testid="linear-in-progress-item"]';

/** The panel of app mode that shows results; null in other modes, and in versions without it. */
export function appPanel() {
  return document.getElementById(PANEL);
}

export class AppPlace {
  #listening = new AbortController();

  constructor(panel, player) {
    this.panel = panel;
    this.element = document.createElement("div");
    this.element.className = "asymtalker-live-app";
    this.element.append(player.element);
    panel.append(this.element);
    const { signal } = this.#listening;
    panel.addEventListener("click", ({ target }) => this.#onClick(target), { signal });
  }

  dropPreviews() {}

  close() {
    this.#listening.abort();
    this.element.remove();
  }

  /** The user can view earlier results in the meantime. */
  #onClick(target) {
    if (target.closest(FINISHED)) this.element.hidden = true;
    else if (target.closest(IN_PROGRESS)) this.element.hidden = false;
  }
}
