// One job: what it does now, its curves, why it stopped, what other settings would have done, its weights.

import { Bar, Copy, Download, FINAL, Picture, Status, Time, Waiting, Wrong, attempt, bytes, duration, html, number, percent, title, useAnswer, useEffect, useMemo, useRef, useState, yaml } from "/dashboard/parts.js";
import { get, listen } from "/dashboard/api.js";
import { Chart } from "/dashboard/chart.js";
import { WhatIf } from "/dashboard/whatif.js";

const POINTS = 2000;
const ACTIONS = {
  stop: [["running", "paused"], "Stop", "Ends with the running epoch and keeps the best weights."],
  pause: [["running", "queued"], "Pause", "Frees the slot and keeps the state."],
  resume: [["paused"], "Resume", "Goes on behind the last epoch."],
  retry: [["failed"], "Retry", "Tries again, from the last epoch if there is one."],
  cancel: [["queued", "running", "paused"], "Cancel", "Gives the job up."],
};

function Actions({ job, again }) {
  const act = async (name) => { if (await attempt("POST", `/jobs/${job.id}/${name}`, undefined, `${ACTIONS[name][1]}: done.`)) again(); };
  const remove = async () => {
    if (confirm("Delete this job with its metrics and weights?") && (await attempt("DELETE", `/jobs/${job.id}`, undefined, "Deleted."))) location.hash = "#/jobs";
  };
  return html`<div class="actions" role="group" aria-label="Actions">
    ${Object.entries(ACTIONS).map(([name, [allowed, words, hint]]) => allowed.includes(job.status) && html`
      <button key=${name} type="button" title=${hint} disabled=${name === "stop" && (job.stop_requested || !job.progress.epoch)} onClick=${() => act(name)}>${words}</button>`)}
    <a class="button" href=${`#/new?from=${job.id}`}>Clone and edit</a>
    ${job.status === "succeeded" && html`<a class="button" href=${`#/try?job=${job.id}`}>Try it</a>`}
    <a class="button" href=${`/jobs/${job.id}/report`} target="_blank" rel="noopener">Report</a>
    ${FINAL.includes(job.status) && html`<button type="button" onClick=${remove}>Delete</button>`}
  </div>`;
}

function Gauge({ state, spec }) {
  const settings = spec.early_stopping;
  if (!settings || !state) return html`<p class="muted">Early stopping is off for this job.</p>`;
  const row = (name, count, most, words) => html`<div class="gauge">
    <span>${name}</span><${Bar} share=${most ? (100 * count) / most : 0} label=${`${name}: ${count} of ${most}`} kind=${most && count >= most ? "full" : ""} />
    <span>${words}</span></div>`;
  return html`<div class="gauges">
    ${settings.patience === null
      ? html`<p class="muted">Stagnation is off.</p>`
      : row("Stagnation", state.stagnation, settings.patience, state.stagnation
          ? `no improvement of ${settings.min_delta} for ${state.stagnation} of ${settings.patience} epochs`
          : `val_loss has just improved by more than ${settings.min_delta}`)}
    ${settings.delta_overfit === null || settings.overfit_patience === null
      ? html`<p class="muted">Overfitting is off.</p>`
      : row("Overfitting", state.overfitting, settings.overfit_patience, state.overfitting
          ? `val_loss above the best by more than ${settings.delta_overfit} for ${state.overfitting} of ${settings.overfit_patience} epochs`
          : `val_loss is within ${settings.delta_overfit} of the best`)}
  </div>`;
}

const column = (rows, name) => rows.map((row) => row[name]);

function Curves({ job, rows, total, whatIf }) {
  const [log, setLog] = useState(false);
  const [fine, setFine] = useState(null); // rows of the stretch that is shown, where the whole curve is thinned out
  const timer = useRef(null);
  const shown = useMemo(() => {
    if (!fine) return rows;
    const [from, to] = [fine[0].epoch, fine.at(-1).epoch];
    return [...rows.filter((row) => row.epoch < from), ...fine, ...rows.filter((row) => row.epoch > to)];
  }, [rows, fine]);
  const seen = (from, to) => {
    clearTimeout(timer.current);
    if (total <= POINTS) return;
    timer.current = setTimeout(async () => {
      const found = await get(`/jobs/${job.id}/metrics`, { after_epoch: Math.max(0, Math.floor(from) - 1), before_epoch: Math.ceil(to) + 1, max_points: POINTS }).catch(() => null);
      if (found?.data.length) setFine(found.data);
    }, 150);
  };
  const x = useMemo(() => column(shown, "epoch"), [shown]);
  const losses = useMemo(() => [
    { name: "train_loss", values: column(shown, "train_loss"), colour: "--train" },
    { name: "val_loss", values: column(shown, "val_loss"), colour: "--val" },
  ], [shown]);
  const accuracies = useMemo(() => [
    { name: "train_acc", values: column(shown, "train_acc"), colour: "--train" },
    { name: "val_acc", values: column(shown, "val_acc"), colour: "--val" },
  ], [shown]);
  const last = rows.at(-1)?.epoch;
  const marks = useMemo(() => [
    ...(job.best ? [{ epoch: job.best.epoch, words: `best ${job.best.epoch}`, colour: "--good", dash: [4, 3] }] : []),
    ...(job.stop_reason && last ? [{ epoch: last, words: job.stop_reason, colour: "--ink", dash: [2, 3] }] : []),
    ...(whatIf ? [{ epoch: whatIf.epoch, words: `what if: ${whatIf.stop_reason ?? "not stopped"}`, colour: "--accent" }] : []),
  ], [job.best?.epoch, job.stop_reason, last, whatIf]);
  if (!rows.length) return html`<p class="muted">The curves begin with the first epoch.</p>`;
  return html`<label class="check"><input type="checkbox" checked=${log} onChange=${() => setLog(!log)} /> logarithmic loss</label>
    <div class="charts" data-epochs=${total}>
      <${Chart} label="Loss" x=${x} series=${losses} marks=${marks} log=${log} sync=${job.id} seen=${seen} />
      <${Chart} label="Accuracy" x=${x} series=${accuracies} marks=${marks} sync=${job.id} seen=${seen} format=${(value, tick) => `${(100 * value).toFixed(tick ? 1 : 2)}%`} />
    </div>
    ${total > rows.length && html`<p class="muted">${total.toLocaleString()} epochs, drawn with all extremes; a stretch that you zoom into is loaded in full.</p>`}`;
}

function Matrix({ evaluation }) {
  const names = evaluation.per_class.map((each) => each.name), matrix = evaluation.confusion_matrix;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix"><table class="matrix">
    <caption>Rows are classes, columns what was taken for them.</caption>
    <thead><tr><td></td>${names.map((name) => html`<th scope="col" key=${name}>${name}</th>`)}</tr></thead>
    <tbody>${matrix.map((row, i) => {
      const sum = row.reduce((a, b) => a + b, 0) || 1;
      return html`<tr key=${i}><th scope="row">${names[i]}</th>${row.map((count, j) => {
        const share = count / sum, strength = i === j ? share : Math.min(1, share * 6);
        return html`<td key=${j} style=${`--strength:${(45 * strength).toFixed(0)}%`} data-right=${i === j}>${count || ""}</td>`;
      })}</tr>`;
    })}</tbody></table></div>`;
}

function Evaluation({ job }) {
  const { evaluation } = job;
  if (!evaluation) return html`<p class="muted">The best weights are evaluated on the test split when training ends.</p>`;
  const names = evaluation.per_class.map((each) => each.name);
  return html`<dl class="figures">
      <div><dt>accuracy</dt><dd>${percent(evaluation.accuracy)}</dd></div>
      <div><dt>loss</dt><dd>${number(evaluation.loss)}</dd></div>
      <div><dt>weighted precision</dt><dd>${percent(evaluation.precision)}</dd></div>
      <div><dt>weighted recall</dt><dd>${percent(evaluation.recall)}</dd></div>
      <div><dt>weighted F1</dt><dd>${percent(evaluation.f1)}</dd></div>
    </dl>
    ${names.length > 20
      ? html`<p><${Picture} class="wide" path=${`/jobs/${job.id}/confusion.svg`} alt="Confusion matrix" /></p>`
      : html`<${Matrix} evaluation=${evaluation} />`}
    ${evaluation.mistakes.length > 0 && html`<h3>Most confidently wrong</h3>
      <ul class="mistakes">${evaluation.mistakes.map((each) => html`<li key=${each.index}>
        <${Picture} path=${`/datasets/${job.spec.dataset.name}/test/${each.index}.png`} alt=${`Test image ${each.index}`} width="64" height="64" loading="lazy" />
        <span>${names[each.label]} taken for <strong>${names[each.predicted]}</strong></span><small>${percent(each.confidence, 1)}</small></li>`)}</ul>`}
    <details><summary>Class by class</summary><div class="scroll" tabindex="0" role="region" aria-label="Classes"><table>
      <thead><tr><th scope="col">class</th><th scope="col">precision</th><th scope="col">recall</th><th scope="col">F1</th><th scope="col">images</th></tr></thead>
      <tbody>${evaluation.per_class.map((each) => html`<tr key=${each.label}><th scope="row">${each.name}</th><td class="number">${percent(each.precision)}</td>
        <td class="number">${percent(each.recall)}</td><td class="number">${percent(each.f1)}</td><td class="number">${each.support}</td></tr>`)}</tbody></table></div></details>`;
}

function Checkpoints({ job, turn }) {
  const [answer] = useAnswer((signal) => get(`/jobs/${job.id}/checkpoints`, {}, signal), [job.id, turn, job.status]);
  if (!answer?.data.length) return html`<p class="muted">The first weights are there after the first epoch.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="Checkpoints"><table>
    <thead><tr><th scope="col">file</th><th scope="col">size</th><th scope="col">epoch</th><th scope="col">val_loss</th><th scope="col">sha256</th></tr></thead>
    <tbody>${answer.data.map((file) => html`<tr key=${file.name}>
      <th scope="row"><${Download} path=${`/jobs/${job.id}/checkpoints/${file.name}`} name=${`${job.id}-${file.name}`}>${file.name}</${Download}></th>
      <td class="number">${bytes(file.size)}</td><td class="number">${file.epoch}</td><td class="number">${number(file.val_loss)}</td>
      <td><code title=${file.sha256}>${file.sha256.slice(0, 12)}…</code></td></tr>`)}</tbody></table></div>`;
}

function Lineage({ job }) {
  if (!job.parent && !job.children.length) return null;
  const link = (id) => html`<a key=${id} href=${`#/jobs/${id}`}>${id.slice(-12)}</a> `;
  return html`<p>${job.parent && html`Starts from the weights of ${link(job.parent)}. `}${job.children.length > 0 && html`Its weights are where ${job.children.map(link)} start from.`}</p>`;
}

const told = (event) => Object.entries(event.data).filter(([, value]) => value !== null && typeof value !== "object").map(([name, value]) => `${name} ${typeof value === "number" && !Number.isInteger(value) ? value.toPrecision(4) : value}`).join(", ");

function Events({ events }) {
  const [all, setAll] = useState(false);
  const shown = events.filter((event) => all || !["epoch", "checkpoint"].includes(event.type)).slice(-200);
  return html`<label class="check"><input type="checkbox" checked=${all} onChange=${() => setAll(!all)} /> epochs and checkpoints, too</label>
    <ol class="events" tabindex="0" aria-label="Events">${shown.map((event) => html`<li key=${event.number}><${Time} at=${event.time} /> <strong>${event.type}</strong> ${told(event)}</li>`)}</ol>`;
}

function Console({ job, turn }) {
  const [lines, setLines] = useState([]);
  const last = useRef(0), box = useRef(null);
  useEffect(() => {
    let current = true;
    get(`/jobs/${job.id}/logs`, { after: last.current, limit: 2000 }).then(({ data }) => {
      if (!current || !data.length) return;
      last.current = data.at(-1).number;
      setLines((before) => [...before, ...data].slice(-2000));
    }, () => {});
    return () => { current = false; };
  }, [job.id, turn, job.status]);
  useEffect(() => { if (box.current) box.current.scrollTop = box.current.scrollHeight; }, [lines]);
  return html`<pre class="console" ref=${box} tabindex="0" aria-label="Console">${lines.map((line) => line.text).join("\n") || "Nothing yet."}</pre>`;
}

function Spec({ job }) {
  const text = yaml(job.spec);
  const curl = () => `curl ${location.origin}/jobs -H 'Content-Type: application/json' -d '${JSON.stringify(job.spec).replaceAll("'", "'\\''")}'`;
  return html`<p><${Copy} text=${curl}>Copy as curl</${Copy}> <${Copy} text=${text}>Copy as YAML</${Copy}></p><pre tabindex="0" aria-label="Spec">${text}</pre>`;
}

function Section({ title: words, open = true, children }) {
  return html`<details class="section" open=${open}><summary><h2>${words}</h2></summary>${children}</details>`;
}

export default function JobPage({ id }) {
  const [job, again, problem] = useAnswer((signal) => get(`/jobs/${id}`, {}, signal), [id]);
  const [rows, setRows] = useState(null);
  const [events, setEvents] = useState([]);
  const [state, setState] = useState(null);
  const [whatIf, setWhatIf] = useState(null);
  const [turn, setTurn] = useState(0);
  const newest = useRef(0);

  useEffect(() => {
    let current = true, waiting = null, end = () => {};
    const soon = () => { waiting ??= setTimeout(() => { waiting = null; setTurn((before) => before + 1); again(); }, 400); };
    (async () => {
      try {
        const metrics = await get(`/jobs/${id}/metrics`, { max_points: POINTS });
        if (!current) return;
        setRows(metrics.data);
        get(`/jobs/${id}/early-stopping`).then((counts) => current && setState((before) => ({ ...counts, ...before })), () => {});
        newest.current = metrics.data.at(-1)?.epoch ?? 0;
      } catch (fault) { return; }
      const newestEvents = await get(`/jobs/${id}/events`, { newest: 500 });
      if (!current) return;
      setEvents(newestEvents.data);
      let last = newestEvents.data.at(-1)?.number ?? 0;
      end = listen(`/jobs/${id}/events`, last, (event) => {
        if (event.number <= last) return;
        last = event.number;
        setEvents((before) => [...before, event].slice(-3000));
        if (event.type === "epoch" && event.data.epoch > newest.current) {
          newest.current = event.data.epoch;
          setRows((before) => [...before, event.data]);
          setState((before) => ({ ...before, ...event.data.early_stopping }));
        }
        if (event.type === "finished") get(`/jobs/${id}/early-stopping`).then((counts) => current && setState(counts), () => {});
        soon();
      });
    })();
    return () => { current = false; clearTimeout(waiting); end(); };
  }, [id]);

  useEffect(() => { if (job) document.title = `${title(job)} · ${job.status} · Whistlestop`; }, [job?.status, job?.name]);
  if (!job) return html`<${Wrong} problem=${problem} />${!problem && html`<${Waiting} />`}`;
  const { progress, runtime } = job;
  return html`<div class="head"><h1>${title(job)}</h1><${Status} status=${job.status} />
      <span class="muted"><code>${job.id}</code> <${Copy} text=${job.id}>copy</${Copy}></span></div>
    <${Wrong} problem=${problem} />
    <${Actions} job=${job} again=${again} />
    <div class="summary">
      <${Bar} share=${progress.percent} label="Progress" kind=${job.status} />
      <p>Epoch ${progress.epoch} of ${progress.max_epochs}${progress.eta_seconds !== null && `, at most ${duration(progress.eta_seconds)} more`}${job.queue_position && `, place ${job.queue_position} in the queue`}.
        ${job.best && ` Best val_loss ${number(job.best.val_loss)} in epoch ${job.best.epoch}.`}
        ${runtime && html` <span class="muted">${runtime.parameters.toLocaleString()} parameters, ${runtime.device} (${runtime.device_name}), ${runtime.precision}, attempt ${job.attempt}.</span>`}</p>
      <p class="muted">Submitted <${Time} at=${job.created_at} />${job.started_at && html`, started <${Time} at=${job.started_at} />`}${job.finished_at && html`, ended <${Time} at=${job.finished_at} />${job.started_at && `, after ${duration((new Date(job.finished_at) - new Date(job.started_at)) / 1000)}`}`}.</p>
      ${job.error && html`<p class="wrong box"><strong>${job.error.type}</strong>: ${job.error.message}</p>`}
      <${Lineage} job=${job} />
    </div>
    <${Section} title="Early stopping"><p class="explanation">${state?.explanation && FINAL.includes(job.status) ? state.explanation : null}</p><${Gauge} state=${state} spec=${job.spec} /></${Section}>
    <${Section} title="Curves">${rows ? html`<${Curves} job=${job} rows=${rows} total=${Math.max(progress.epoch, rows.length)} whatIf=${whatIf} />` : html`<${Waiting} />`}</${Section}>
    ${rows?.length > 1 && html`<${Section} title="What if"><${WhatIf} job=${job} epoch=${progress.epoch} tell=${setWhatIf} /></${Section}>`}
    <${Section} title="Evaluation"><${Evaluation} job=${job} /></${Section}>
    <${Section} title="Checkpoints"><${Checkpoints} job=${job} turn=${turn} /></${Section}>
    <${Section} title="Console"><${Console} job=${job} turn=${turn} /></${Section}>
    <${Section} title="Events" open=${false}><${Events} events=${events} /></${Section}>
    <${Section} title="Spec" open=${false}><${Spec} job=${job} /></${Section}>`;
}
