/** Manages the players and their places. */

import { AppPlace, appPanel } from "./app_place.mjs";
import { isOfThisWorkflow, nodesOf } from "./graph.mjs";
import { NodePlace } from "./node_place.mjs";
import { isRunning } from "./pace.mjs";
import { LivePlayer } from "./player.mjs";

/** The player on Mux & Save starts after the Sampler's. */
const MUX_FROM_CHUNK = 2;

export class Stage {
  #jobs;
  #sound;
  /** node or app mode's panel -> {player, place, id: the node's for the server, isMux} */
  #views = new Map();

  constructor(jobs, sound) {
    this.#jobs = jobs;
    this.#sound = sound;
  }

  /** Update after a change of a job. */
  show(record) {
    if (!isOfThisWorkflow(record.job)) return;
    const panel = appPanel();
    for (const view of this.#views.values()) {
      if (view.player.record.job.id === record.job.id) this.#update(view, record);
    }
    for (const { id, node, isMux } of nodesOf(record.job)) {
      if (!isMux || record.job.done >= MUX_FROM_CHUNK) this.#showOn(node, record, { id, isMux });
    }
    if (panel) this.#showOn(panel, record, { id: record.job.node, isMux: false });
  }

  /** Called when the graph on the canvas or the mode changes. */
  refresh() {
    const panel = appPanel();
    for (const target of [...this.#views.keys()]) {
      if (target instanceof Element && target !== panel) this.#remove(target);
    }
    for (const record of this.#jobs.all()) if (isRunning(record)) this.show(record);
  }

  /** Called when ComfyUI has a preview for the node with this id. */
  showPreview(id, blob) {
    for (const { player, place, ...view } of this.#views.values()) {
      if (player.isSeen) place.dropPreviews();
      if (view.id === id && isRunning(player.record)) player.showPreview(blob);
    }
  }

  /** ComfyUI itself shows the result of the node with this id, in the browser that queued it. */
  showsItself(id) {
    for (const [target, view] of [...this.#views]) if (view.isMux && view.id === id) this.#remove(target);
  }

  /** Called at the end of a prompt: app mode shows its results. */
  endPrompt(prompt) {
    for (const [target, { player }] of [...this.#views]) {
      if (target instanceof Element && player.record.job.prompt === prompt) this.#remove(target);
    }
  }

  /** Replace finished jobs with their saved files. `addressOf(record)`: the file's address, or null. */
  async showResults(addressOf) {
    for (const [target, view] of [...this.#views]) {
      const { record } = view.player;
      if (record.job.state !== "finished" || view.player.hasResult) continue;
      const address = await addressOf(record);
      const isSame = this.#views.get(target) === view && view.player.record.job.id === record.job.id;
      if (address && isSame && !view.player.hasResult) view.player.showFile(address);
    }
  }

  #showOn(target, record, { id, isMux }) {
    const view = this.#views.get(target);
    // Ended jobs are not shown again. A prompt that was queued later may begin before an earlier one ends.
    if (view?.player.record.job.id === record.job.id || !isRunning(record)) return;
    this.#update(view ?? this.#add(target, id, isMux), record);
  }

  #update({ player }, record) {
    if (!player.hasResult || player.record.job.id !== record.job.id) player.show(record);
  }

  #add(target, id, isMux) {
    const player = new LivePlayer(this.#sound, (isSeen) => {
      if (isSeen) place.dropPreviews();
      this.refresh();
    });
    const place =
      target instanceof Element
        ? new AppPlace(target, player)
        : new NodePlace(target, player, () => this.#remove(target));
    const view = { player, place, id, isMux };
    this.#views.set(target, view);
    return view;
  }

  #remove(target) {
    const view = this.#views.get(target);
    if (!view) return;
    this.#views.delete(target);
    view.place.close();
    view.player.close();
  }
}
