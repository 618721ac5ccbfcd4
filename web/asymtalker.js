/** Shows on the Sampler and on Mux & Save, while it is generated, the video with its sound. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { Jobs } from "./live/jobs.mjs";
import { LivePlayer } from "./live/player.mjs";
import { prepareSource } from "./live/source.mjs";
import { addStyle } from "./live/style.mjs";
import { useLanguage } from "./live/texts.mjs";

const SAMPLER = "AsymTalkerSampler";
const MUX = "AsymTalkerMux";
const WIDGET = "asymtalker_live";
const MIN_HEIGHT = 300;
/** Name of the widget that the front end's canvas shows previews in. */
const PREVIEW_WIDGET = "$$canvas-image-preview";

/** node -> {player, widget, record, hasResult: whether it shows the saved file} */
const views = new Map();
const jobs = new Jobs(show);

/** Every node of the open workflow with the id it has for the server: "7", or "12:7" in a subgraph. */
function* allNodes(graph = app.graph, prefix = "") {
  for (const node of graph?.nodes ?? []) {
    yield [prefix + node.id, node];
    if (node.subgraph) yield* allNodes(node.subgraph, `${prefix}${node.id}:`);
  }
}

/** Whether `node` takes anything, over any number of links, from `wanted`. */
function comesFrom(node, wanted, seen = new Set()) {
  if (node === wanted) return true;
  if (!node || seen.has(node)) return false;
  seen.add(node);
  return (node.inputs ?? []).some((_, slot) => comesFrom(node.getInputNode(slot), wanted, seen));
}

/** The sampler that a job runs on and the Mux & Save nodes behind it, with their ids; none if it is another workflow's. */
function nodesOf(job) {
  if (job.workflow && job.workflow !== app.graph?.id) return [];
  const nodes = [...allNodes()];
  const found = nodes.find(([id, node]) => id === job.node && node.comfyClass === SAMPLER);
  if (!found) return [];
  return [found, ...nodes.filter(([, node]) => node.comfyClass === MUX && comesFrom(node, found[1]))];
}

function show(record) {
  const { job } = record;
  for (const [, node] of nodesOf(job)) {
    const view = views.get(node);
    // What is over is not brought back, and the Sampler's picture comes first.
    if (!view && (job.state !== "running" || (node.comfyClass === MUX && job.done < 2))) continue;
    // A prompt that was queued later may begin before the end of an earlier one is told.
    if (view && view.record.job.id !== job.id && job.state !== "running") continue;
    const shown = view ?? addView(node);
    if (shown.hasResult && shown.record.job.id === job.id) continue;
    [shown.record, shown.hasResult] = [record, false];
    shown.player.show(record);
    dropPreview(node);
  }
  if (job.state === "finished") showResults();
}

function addView(node) {
  const player = new LivePlayer(node.comfyClass === MUX);
  const widget = node.addDOMWidget(WIDGET, WIDGET, player.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => MIN_HEIGHT,
  });
  // Neither in saved workflows nor in what is queued.
  widget.serialize = false;
  const view = { player, widget, record: null, hasResult: false };
  views.set(node, view);
  const onRemoved = node.onRemoved;
  node.onRemoved = function (...args) {
    removeView(node);
    return onRemoved?.apply(this, args);
  };
  grow(node);
  return view;
}

function removeView(node) {
  const view = views.get(node);
  if (!view) return;
  views.delete(node);
  view.player.close();
  removeWidget(node, view.widget);
}

function removeWidget(node, widget) {
  const index = node.widgets?.indexOf(widget) ?? -1;
  if (index >= 0) node.widgets.splice(index, 1);
  widget?.onRemove?.();
}

/** The player takes the place of the preview, which the server stops sending once its chunks are taken. */
function dropPreview(node) {
  if (!node.imgs?.length) return;
  node.imgs = undefined;
  removeWidget(node, node.widgets?.find((widget) => widget.name === PREVIEW_WIDGET));
}

function grow(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  app.graph?.setDirtyCanvas(true, true);
}

/** Let the saved files take over from jobs that are over. */
async function showResults() {
  for (const [node, view] of [...views]) {
    const { job } = view.record;
    if (job.state !== "finished" || view.hasResult) continue;
    const outputs = await jobs.outputs(job.prompt);
    const saved = outputs && nodesOf(job).flatMap(([id]) => outputs[id]?.images ?? []).at(-1);
    if (!saved || views.get(node) !== view || view.record.job.id !== job.id) continue;
    view.hasResult = true;
    view.player.showFile(api.apiURL(`/view?${new URLSearchParams(saved)}`));
  }
}

/** The front end itself shows a node's result in the browser that queued it. */
function onExecuted({ detail }) {
  for (const [id, node] of allNodes()) {
    if (id === String(detail.display_node ?? detail.node) && node.comfyClass === MUX) removeView(node);
  }
}

async function refresh() {
  await jobs.refresh();
}

// Not in setup(): an event that comes before is an unknown one to the front end.
api.addEventListener("asymtalker.live", ({ detail }) => jobs.take(detail));

app.registerExtension({
  name: "AsymTalker.LivePlayer",
  setup() {
    useLanguage(app.extensionManager?.setting?.get("Comfy.Locale"));
    addStyle();
    api.addEventListener("reconnected", refresh);
    api.addEventListener("status", showResults);
    api.addEventListener("executed", onExecuted);
  },
  nodeCreated(node) {
    if (node.comfyClass === SAMPLER) prepareSource();
  },
  afterConfigureGraph: refresh,
});
