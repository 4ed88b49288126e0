// The list of jobs, live.

import { Bar, FINAL, Sparkline, Status, Time, Waiting, Wrong, attempt, duration, html, number, percent, say, title, useAnswer, useEffect, useRef, useState } from "/dashboard/parts.js";
import { get, listen } from "/dashboard/api.js";

const STATUSES = ["queued", "running", "paused", "succeeded", "failed", "cancelled"];
const MODELS = ["mlp", "cnn", "resnet", "torchvision", "linear_probe"];
const EVERY = 1000; // milliseconds between two looks while things happen
const SCREEN = 20; // rows that are drawn at first; the others follow when these are seen

const page = (filters, cursor, signal) => get("/jobs", { ...filters, sparkline: 30, limit: 50, cursor }, signal);

// What most people open first is asked for before anything is drawn.
let ahead = ["", "#/", "#/jobs"].includes(location.hash) ? page({}, null) : null;
ahead?.catch(() => {}); // whoever takes it hears of it

function go(changes) {
  const next = new URLSearchParams(location.hash.split("?")[1]);
  for (const [name, value] of Object.entries(changes)) {
    if (value) next.set(name, value);
    else next.delete(name);
  }
  location.hash = `#/jobs?${next}`;
}

/** Filters while somebody types, as soon as the fingers rest. */
function TextFilter({ query, name, children }) {
  const asked = query.get(name) ?? "";
  const [text, setText] = useState(asked);
  const resting = useRef(null);
  useEffect(() => () => clearTimeout(resting.current), []);
  useEffect(() => { if (resting.current === null && text.trim() !== asked) setText(asked); }, [asked]);
  const typed = (event) => {
    const value = event.target.value;
    setText(value);
    clearTimeout(resting.current);
    resting.current = setTimeout(() => { resting.current = null; go({ [name]: value.trim() }); }, 300);
  };
  return html`<label>${children} <input type="search" value=${text} onInput=${typed} /></label>`;
}

function Choice({ query, name, among, children }) {
  return html`<label>${children} <select value=${query.get(name) ?? ""} onChange=${(event) => go({ [name]: event.target.value })}>
    <option value="">all</option>${among.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>`;
}

function Filters({ query }) {
  return html`<form class="filters" onSubmit=${(event) => event.preventDefault()}>
    <${Choice} query=${query} name="status" among=${STATUSES}>Status</${Choice}>
    <${TextFilter} query=${query} name="name">Name</${TextFilter}>
    <${TextFilter} query=${query} name="tag">Tag</${TextFilter}>
    <${TextFilter} query=${query} name="dataset">Data set</${TextFilter}>
    <${Choice} query=${query} name="model" among=${MODELS}>Model</${Choice}>
  </form>`;
}

function SortButton({ query, name, children }) {
  const current = (query.get("sort") ?? "created_at") === name;
  const first = name === "val_loss" ? "asc" : "desc";
  const order = current ? query.get("order") ?? first : null;
  const next = current && order === first ? (first === "asc" ? "desc" : "asc") : "";
  return html`<button type="button" class="plain sort" onClick=${() => go({ sort: name === "created_at" ? "" : name, order: next })}>
    ${children}${current && html` <span aria-label=${order === "asc" ? "lowest first" : "highest first"}>${order === "asc" ? "▲" : "▼"}</span>`}</button>`;
}

function Row({ job, chosen, choose }) {
  const { progress } = job;
  return html`<tr>
    <td><input type="checkbox" checked=${chosen} onChange=${choose} aria-label=${`Select ${title(job)}`} /></td>
    <th scope="row"><a href=${`#/jobs/${job.id}`}>${title(job)}</a>
      <small>${job.spec.model.kind} on ${job.spec.dataset.name}${job.tags.map((tag) => html` <span class="tag">${tag}</span>`)}</small></th>
    <td><${Status} status=${job.status} />${job.queue_position && html`<small>place ${job.queue_position}</small>`}</td>
    <td class="progress"><${Bar} share=${progress.percent} label=${`Progress of ${title(job)}`} kind=${job.status} />
      <small>${progress.epoch} of ${progress.max_epochs}${progress.eta_seconds !== null && `, at most ${duration(progress.eta_seconds)} more`}</small></td>
    <td><${Sparkline} values=${job.sparkline} /></td>
    <td class="number">${job.best ? number(job.best.val_loss) : "–"}</td>
    <td class="number">${percent(job.evaluation?.accuracy)}</td>
    <td>${job.error && !job.stop_reason ? html`<span class="error" title=${job.error.message}>${job.error.type}</span>` : job.stop_reason ?? "–"}</td>
    <td><${Time} at=${job.created_at} /></td>
  </tr>`;
}

export default function Jobs({ query }) {
  const filters = Object.fromEntries(query);
  const [pages, setPages] = useState(1);
  const [chosen, setChosen] = useState(new Set());
  const [live, setLive] = useState(true);
  const read = async (signal) => {
    let data = [], cursor = null;
    for (let turn = 0; turn < pages; turn++) {
      const found = await ((query.size === 0 && ahead) || page(filters, cursor, signal));
      ahead = null;
      data = data.concat(found.data);
      cursor = found.next;
      if (!cursor) break;
    }
    return { data, next: cursor };
  };
  const [answer, again, problem] = useAnswer(read, [query.toString(), pages]);
  useEffect(() => {
    let waiting = null;
    const soon = () => { waiting ??= setTimeout(() => { waiting = null; again(); }, EVERY); };
    const end = listen("/events", null, soon, (there) => { setLive(there); if (there) soon(); });
    return () => { clearTimeout(waiting); end(); };
  }, []);

  const [drawn, setDrawn] = useState(SCREEN);
  useEffect(() => { if (answer) setDrawn(Infinity); }, [answer]);
  const jobs = answer?.data ?? [];
  const selected = jobs.filter((job) => chosen.has(job.id));
  const toggle = (id) => setChosen((before) => {
    const after = new Set(before);
    if (!after.delete(id)) after.add(id);
    return after;
  });
  const all = jobs.length > 0 && selected.length === jobs.length;
  const each = async (possible, method, path, done) => {
    const answers = await Promise.all(possible.map((job) => attempt(method, path(job))));
    say(`${answers.filter(Boolean).length} ${done}.`);
    setChosen(new Set());
    again();
  };
  const open = selected.filter((job) => !FINAL.includes(job.status));
  const ended = selected.filter((job) => FINAL.includes(job.status));
  const remove = () => confirm(`Delete ${ended.length} jobs with their metrics and weights?`)
    && each(ended, "DELETE", (job) => `/jobs/${job.id}`, "deleted");

  return html`<div class="head"><h1>Jobs</h1>
      <span class="muted" role="status">${live ? "live" : "not connected; trying again"}</span>
      <a class="button primary" href="#/new">New job</a></div>
    <${Filters} query=${query} />
    <div class="actions" aria-label="Selected jobs" role="group">
      <span class="muted">${selected.length} selected</span>
      <button type="button" disabled=${selected.length < 2 || selected.length > 20} onClick=${() => { location.hash = `#/compare?${selected.map((job) => `job=${job.id}`).join("&")}`; }}>Compare</button>
      <button type="button" disabled=${!open.length} onClick=${() => each(open, "POST", (job) => `/jobs/${job.id}/cancel`, "cancelled")}>Cancel</button>
      <button type="button" disabled=${!ended.length} onClick=${remove}>Delete</button>
    </div>
    <${Wrong} problem=${problem} />
    ${!answer && !problem && html`<${Waiting} />`}
    ${answer && !jobs.length && html`<p class="box">No job here${query.toString() ? " that matches" : " yet"}. <a href="#/new">Submit one</a>, or
      <code>curl ${location.origin}/jobs -H 'Content-Type: application/json' -d '{}'</code>, which is Exercise 1.</p>`}
    ${jobs.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Jobs"><table class="jobs">
      <thead><tr>
        <th><input type="checkbox" checked=${all} aria-label="Select all" onChange=${() => setChosen(all ? new Set() : new Set(jobs.map((job) => job.id)))} /></th>
        <th scope="col">Job</th><th scope="col">Status</th><th scope="col">Progress</th><th scope="col">val_loss</th>
        <th scope="col" class="number"><${SortButton} query=${query} name="val_loss">Best</${SortButton}></th>
        <th scope="col" class="number"><${SortButton} query=${query} name="test_acc">Test acc.</${SortButton}></th>
        <th scope="col">Stop reason</th>
        <th scope="col"><${SortButton} query=${query} name="created_at">Submitted</${SortButton}></th>
      </tr></thead>
      <tbody>${jobs.slice(0, drawn).map((job) => html`<${Row} key=${job.id} job=${job} chosen=${chosen.has(job.id)} choose=${() => toggle(job.id)} />`)}</tbody>
    </table></div>`}
    ${answer?.next && html`<p><button type="button" onClick=${() => setPages(pages + 1)}>More</button></p>`}`;
}
