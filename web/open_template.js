// Opens the pack's template that is named in the URL, for scripts/talk.py --ui. ComfyUI's own parameter does not accept
// spaces, and the template browser uses the file names.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const PARAMETER = "asymtalker_template";
const PACK = decodeURIComponent(new URL(".", import.meta.url).pathname.split("/").at(-2));

function wantedTemplate() {
    const address = new URL(location.href);
    const name = address.searchParams.get(PARAMETER);
    if (name === null) return null;
    // A reload must show the user's changes.
    address.searchParams.delete(PARAMETER);
    history.replaceState(history.state, "", address);
    return name;
}

let wanted = wantedTemplate();

app.registerExtension({
    name: "AsymTalker.OpenTemplate",
    // After the graph that the front end opens by itself.
    async afterConfigureGraph() {
        if (wanted === null) return;
        const name = wanted;
        wanted = null;
        const response = await api.fetchApi(`/workflow_templates/${PACK}/${encodeURIComponent(name)}.json`);
        if (!response.ok) throw new Error(`AsymTalker: there is no template ${name}`);
        const workflow = await response.json();
        setTimeout(() => app.loadGraphData(workflow, true, true, name));
    },
});
