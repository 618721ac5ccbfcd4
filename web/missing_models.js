// Makes ComfyUI's missing-models dialogue list the files of a published model that are not installed.
// The dialogue finds files by the names in widgets. While a file is missing, the widgets of Load AsymTalker contain its
// name instead of the pack's own value, which is restored when the file is found in any folder.
import { app } from "../../scripts/app.js";

const NODE = "AsymTalkerLoader";
const INPUTS = ["model", "weight_dtype", "vae", "audio_encoder"];
const DEFAULT = "default";

// From the server's description of the node: { file name: value of `model` },
// { value of `model`: { input: { name, url, directory } } }, and the values of each input.
let files = {};
let missing = {};
let choices = {};

function read(nodeDef) {
    const required = nodeDef?.input?.required ?? {};
    const options = required.model?.at(-1);
    files = options?.asymtalker_single_files ?? {};
    missing = options?.asymtalker_missing ?? {};
    choices = Object.fromEntries(INPUTS.map((name) => [name, listed(required[name])]));
}

/** The values of an input; older servers send the list instead of the type. */
function listed(input) {
    const [kind, options] = input ?? [];
    return Array.isArray(kind) ? kind : (options?.options ?? []);
}

/** The values that the node's widgets should have, by input; null if the model is not a published one. */
function settled(values) {
    const { model } = values;
    if (files[model] && choices.model.includes(model)) return null;
    const choice = files[model] ?? model;
    if (!Object.values(files).includes(choice)) return null;
    const lacks = missing[choice] ?? {};
    const found = { model: lacks.model?.name ?? choice };
    for (const name of ["vae", "audio_encoder"]) {
        const isOwn = values[name] === DEFAULT || !choices[name].includes(values[name]);
        if (isOwn) found[name] = lacks[name]?.name ?? DEFAULT;
    }
    return { found, models: Object.values(lacks) };
}

function settleSaved(node) {
    if (node.type !== NODE || !Array.isArray(node.widgets_values)) return;
    const values = Object.fromEntries(INPUTS.map((name, index) => [name, node.widgets_values[index]]));
    const result = settled(values);
    if (!result) return;
    node.widgets_values = INPUTS.map((name) => result.found[name] ?? values[name]);
    node.properties = { ...node.properties, models: result.models };
}

function settleShown(node) {
    if (node.subgraph) node.subgraph.nodes.forEach(settleShown);
    if (node.comfyClass !== NODE) return;
    const widgets = Object.fromEntries((node.widgets ?? []).map((widget) => [widget.name, widget]));
    const result = settled(Object.fromEntries(INPUTS.map((name) => [name, widgets[name]?.value])));
    if (!result) return;
    for (const [name, value] of Object.entries(result.found)) widgets[name].value = value;
    node.properties.models = result.models;
}

app.registerExtension({
    name: "AsymTalker.MissingModels",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (nodeData.name === NODE) read(nodeData);
    },
    beforeConfigureGraph(graph) {
        graph?.nodes?.forEach(settleSaved);
        graph?.definitions?.subgraphs?.forEach((part) => part.nodes?.forEach(settleSaved));
    },
    refreshComboInNodes(defs) {
        read(defs[NODE]);
        app.graph?.nodes?.forEach(settleShown);
    },
});
