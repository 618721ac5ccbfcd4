// The table on Kept Jobs: jobs on disk with pictures, and a button to remove each of them.
import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";

const NODE = "AsymTalkerKeptJobs";
const ROUTE = "/asymtalker/kept";
const MIN_HEIGHT = 160;
const SIZE = [560, 320];

const WORDS = {
    en: { remove: "Remove", finished: "Remove finished", refresh: "Refresh", empty: "Nothing is kept." },
    zh: { remove: "删除", finished: "删除已完成的", refresh: "刷新", empty: "没有保留任何内容。" },
    ja: { remove: "削除", finished: "完了分を削除", refresh: "更新", empty: "保持されているものはありません。" },
    ko: { remove: "삭제", finished: "완료된 항목 삭제", refresh: "새로 고침", empty: "보관 중인 항목이 없습니다." },
    fr: { remove: "Supprimer", finished: "Supprimer les terminés", refresh: "Actualiser", empty: "Rien n’est conservé." },
    es: { remove: "Eliminar", finished: "Eliminar los terminados", refresh: "Actualizar", empty: "No hay nada guardado." },
    ru: { remove: "Удалить", finished: "Удалить завершённые", refresh: "Обновить", empty: "Ничего не хранится." },
};

const CSS = `
.asymtalker-kept { display: flex; flex-direction: column; gap: 6px; min-height: ${MIN_HEIGHT}px; height: 100%;
  width: 100%; min-width: 0; contain: inline-size; overflow: hidden;
  box-sizing: border-box; padding: 4px; font: 12px sans-serif; color: var(--input-text, #ddd); }
.asymtalker-kept-rows { flex: 1 1 auto; overflow: auto; min-height: 90px; }
.asymtalker-kept table { width: 100%; border-collapse: collapse; }
.asymtalker-kept td { padding: 3px 6px; border-bottom: 1px solid var(--border-color, #444); vertical-align: middle; }
.asymtalker-kept td.numbers { white-space: nowrap; text-align: right; }
.asymtalker-kept small { display: block; color: var(--descrip-text, #999); }
.asymtalker-kept img { display: block; width: 48px; height: 48px; object-fit: cover; border-radius: 4px; }
.asymtalker-kept button { border: 0; border-radius: 4px; padding: 3px 8px; font: inherit; cursor: pointer;
  background: var(--comfy-input-bg, #222); color: inherit; }
.asymtalker-kept-bar { display: flex; gap: 6px; align-items: center; flex: none; }
.asymtalker-kept-note { flex: 1; min-width: 0; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.asymtalker-kept-note.error { color: var(--error-text, #ff6b6b); white-space: normal; }
`;

function word(name) {
    const language = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en";
    return (WORDS[language] ?? WORDS.en)[name];
}

function make(tag, parent, properties = {}) {
    const element = Object.assign(document.createElement(tag), properties);
    parent.append(element);
    return element;
}

class KeptTable {
    #rows;
    #note;
    #asked = 0;

    constructor() {
        this.element = Object.assign(document.createElement("div"), { className: "asymtalker-kept" });
        const bar = make("div", this.element, { className: "asymtalker-kept-bar" });
        this.#note = make("span", bar, { className: "asymtalker-kept-note" });
        make("button", bar, { type: "button", textContent: word("refresh"), onclick: () => this.refresh() });
        make("button", bar, { type: "button", textContent: word("finished"), onclick: () => this.#remove("finished") });
        this.#rows = make("div", this.element, { className: "asymtalker-kept-rows" });
        // The canvas would zoom.
        this.#rows.addEventListener("wheel", (event) => {
            if (this.#rows.scrollHeight > this.#rows.clientHeight) event.stopPropagation();
        });
    }

    async refresh() {
        await this.#ask(undefined);
    }

    show({ summary, jobs, failures }) {
        this.#report([summary, ...failures].join(" "), failures.length > 0);
        this.#list(jobs);
    }

    #list(jobs) {
        this.#rows.replaceChildren();
        if (!jobs.length) {
            make("p", this.#rows, { textContent: word("empty") });
            return;
        }
        const body = make("tbody", make("table", this.#rows));
        for (const job of jobs) this.#row(make("tr", body), job);
    }

    #row(row, job) {
        const picture = make("td", row);
        if (job.picture) make("img", picture, { src: job.picture, alt: "" });
        const what = make("td", row, { textContent: job.description });
        make("small", what, { textContent: `${job.id}, ${job.state}` });
        const progress = make("td", row, { className: "numbers", textContent: job.size });
        make("small", progress, { textContent: job.progress });
        make("td", row, { className: "numbers", textContent: job.date });
        make("button", make("td", row), {
            type: "button",
            textContent: word("remove"),
            // Also for a job in use: it may have ended meanwhile. If not, the server refuses and gives the reason.
            onclick: () => this.#remove(job.id),
        });
    }

    #report(text, isError) {
        Object.assign(this.#note, { textContent: text, title: text });
        this.#note.classList.toggle("error", isError);
    }

    async #remove(remove) {
        const headers = { "Content-Type": "application/json" };
        await this.#ask({ method: "POST", headers, body: JSON.stringify({ remove }) });
    }

    async #ask(options) {
        const number = (this.#asked += 1);
        const response = await api.fetchApi(ROUTE, options);
        const refusal = response.ok ? null : await response.text();
        const answer = refusal === null ? response : await api.fetchApi(ROUTE);
        const shown = answer.ok ? await answer.json() : null;
        // Answers can arrive in another order: an earlier list would bring back what was removed meanwhile.
        if (number !== this.#asked) return;
        if (refusal === null) this.show(shown);
        else {
            this.#report(refusal, true);
            if (shown) this.#list(shown.jobs);
        }
    }
}

app.registerExtension({
    name: "AsymTalker.KeptJobs",
    setup() {
        make("style", document.head, { textContent: CSS });
    },
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        const table = new KeptTable();
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => MIN_HEIGHT };
        const widget = node.addDOMWidget("asymtalker_kept", "asymtalker_kept", table.element, options);
        // Not part of saved workflows or queued prompts.
        widget.serialize = false;
        node.setSize([Math.max(node.size[0], SIZE[0]), Math.max(node.size[1], SIZE[1])]);
        const onExecuted = node.onExecuted;
        node.onExecuted = function (output, ...rest) {
            const [shown] = output?.asymtalker_kept ?? [];
            if (shown) table.show(shown);
            return onExecuted?.call(this, output, ...rest);
        };
        table.refresh();
    },
});
