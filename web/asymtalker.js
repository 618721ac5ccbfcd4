/** Shows on the Sampler and on Mux & Save, while it is generated, the video with its sound. */

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { Jobs } from "./live/jobs.mjs";
import { Sound } from "./live/sound.mjs";
import { prepareSource } from "./live/source.mjs";
import { Stage } from "./live/stage.mjs";
import { addStyle } from "./live/style.mjs";
import { useLanguage } from "./live/texts.mjs";

const jobs = new Jobs(onChange);
const stage = new Stage(jobs, new Sound());

function onChange(record) {
  stage.show(record);
  if (record.job.state === "finished") showResults();
}

/** Address of the file that a job was saved to as it is; null while there is none, or if it is part of another video. */
async function savedFile({ job }) {
  const outputs = await jobs.outputs(job.prompt);
  const saved = outputs && job.own_savers.flatMap((id) => outputs[id]?.images ?? []).at(-1);
  return saved ? api.apiURL(`/view?${new URLSearchParams(saved)}`) : null;
}

function showResults() {
  return stage.showResults(savedFile);
}

/** After the front end's own listeners, which show the picture as the node's preview. */
function onPreview({ detail }) {
  queueMicrotask(() => stage.showPreview(String(detail.displayNodeId), detail.blob));
}

// Not in setup(): an event that comes before is an unknown one to the front end.
api.addEventListener("asymtalker.live", ({ detail }) => jobs.take(detail));

app.registerExtension({
  name: "AsymTalker.LivePlayer",
  setup() {
    useLanguage(app.extensionManager?.setting?.get("Comfy.Locale"));
    addStyle();
    api.addEventListener("reconnected", () => jobs.refresh());
    api.addEventListener("status", showResults);
    api.addEventListener("executed", ({ detail }) => stage.showsItself(String(detail.display_node ?? detail.node)));
    api.addEventListener("execution_success", ({ detail }) => stage.endPrompt(detail.prompt_id));
    api.addEventListener("b_preview_with_metadata", onPreview);
    app.canvas?.canvas.addEventListener("litegraph:set-graph", () => stage.refresh());
  },
  nodeCreated(node) {
    if (node.comfyClass === "AsymTalkerSampler") prepareSource();
  },
  afterConfigureGraph: () => jobs.refresh(),
});
