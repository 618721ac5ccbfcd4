// The choices of Load AsymTalker say what is there: bundled, found, or missing and where it goes.
// Only labels change; the values that workflows save are the same in every language.
import { app } from "../../scripts/app.js";

const NODE = "AsymTalkerLoader";
const WIDGET = "model";
const WORDS = {
    en: { bundled: "bundled, nothing to download", found: "found", missing: "missing, goes to" },
    zh: { bundled: "自带，无需下载", found: "已找到", missing: "缺失，请放入" },
    ja: { bundled: "同梱、ダウンロード不要", found: "あり", missing: "なし、置き場所は" },
    ko: { bundled: "기본 포함, 다운로드 불필요", found: "있음", missing: "없음, 넣을 곳:" },
    fr: { bundled: "fourni, rien à télécharger", found: "trouvé", missing: "absent, à placer dans" },
    es: { bundled: "incluido, sin descargas", found: "encontrado", missing: "falta, va en" },
    ru: { bundled: "в комплекте, скачивать не нужно", found: "найдено", missing: "нет, место:" },
};

// From the server's description of the node: { value: "bundled" | "found" | "missing: <folder>" }.
let states = {};

function readStates(nodeDef) {
    const options = nodeDef?.input?.required?.[WIDGET]?.at(-1);
    states = options?.asymtalker_states ?? {};
}

function label(value) {
    const state = states[value];
    if (state === undefined) return value ?? "";
    const [kind, folder = ""] = state.split(": ");
    const language = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
    const word = (WORDS[language] ?? WORDS.en)[kind];
    // The folder ends with the value; a narrow widget shows the beginning.
    return kind === "missing" ? `${word} ${folder}` : `${value} (${word})`;
}

app.registerExtension({
    name: "AsymTalker.LoaderLabels",
    beforeRegisterNodeDef(nodeType, nodeData) {
        if (nodeData.name === NODE) readStates(nodeData);
    },
    refreshComboInNodes(defs) {
        readStates(defs[NODE]);
    },
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        const widget = node.widgets?.find((one) => one.name === WIDGET);
        if (widget) widget.options.getOptionLabel = label;
    },
});
