// Labels the choices of Load AsymTalker: bundled, found, or not installed with the download size.
// Only labels change; the values that workflows save are the same in every language.
import { app } from "../../scripts/app.js";

const NODE = "AsymTalkerLoader";
const WIDGET = "model";
const WORDS = {
    en: { bundled: "bundled, no download", found: "found", missing: "not installed" },
    zh: { bundled: "自带，无需下载", found: "已找到", missing: "未安装" },
    ja: { bundled: "同梱、ダウンロード不要", found: "あり", missing: "未インストール" },
    ko: { bundled: "기본 포함, 다운로드 불필요", found: "있음", missing: "설치되지 않음" },
    fr: { bundled: "fourni", found: "trouvé", missing: "non installé" },
    es: { bundled: "incluido, sin descargas", found: "encontrado", missing: "no instalado" },
    ru: { bundled: "в комплекте", found: "найдено", missing: "не установлено" },
};

// From the server's description of the node: { value: "bundled" | "found" | "missing: <folder>" },
// and of the published models { value: [name, size of the download] }.
let states = {};
let titles = {};
// { name as a single file: value }, as web/missing_models.js puts it into graphs.
let files = {};

function readStates(nodeDef) {
    const options = nodeDef?.input?.required?.[WIDGET]?.at(-1);
    states = options?.asymtalker_states ?? {};
    titles = options?.asymtalker_titles ?? {};
    files = options?.asymtalker_single_files ?? {};
}

function label(named) {
    const value = states[named] === undefined ? (files[named] ?? named) : named;
    const state = states[value];
    if (state === undefined) return value ?? "";
    const [kind] = state.split(": ");
    const language = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
    const word = (WORDS[language] ?? WORDS.en)[kind];
    const [title, size] = titles[value] ?? [value];
    return kind === "missing" ? `${title} (${word}, ${size})` : `${title} (${word})`;
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
