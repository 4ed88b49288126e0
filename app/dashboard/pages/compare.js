// Jobs side by side: curves, differences of their specs, a table, a scatter plot.

import { Status, Waiting, Wrong, duration, html, number, percent, title, useAnswer, useMemo, useState } from "/dashboard/parts.js";
import { get } from "/dashboard/api.js";
import { Chart } from "/dashboard/chart.js";

const SERIES = ["val_loss", "val_acc", "train_loss", "train_acc"];
const COLOURS = ["--c0", "--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7"];
const FIGURES = [
  ["epochs", (job) => job.progress.epoch, (value) => value],
  ["best val_loss", (job) => job.best?.val_loss, number],
  ["best val_acc", (job) => job.best?.val_acc, percent],
  ["test accuracy", (job) => job.evaluation?.accuracy, percent],
  ["test loss", (job) => job.evaluation?.loss, number],
  ["weighted precision", (job) => job.evaluation?.precision, percent],
  ["weighted F1", (job) => job.evaluation?.f1, percent],
  ["parameters", (job) => job.runtime?.parameters, (value) => value?.toLocaleString() ?? "–"],
  ["seconds", (job) => (job.started_at && job.finished_at ? (new Date(job.finished_at) - new Date(job.started_at)) / 1000 : null), duration],
];
const words = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

function Scatter({ columns, jobs }) {
  const numeric = columns.filter(({ values }) => values.filter((value) => typeof value === "number").length > 1);
  const [x, setX] = useState(0), [y, setY] = useState(null);
  if (numeric.length < 2) return html`<p class="muted">There are no two columns of numbers to draw.</p>`;
  const across = numeric[Math.min(x, numeric.length - 1)], up = numeric[y ?? Math.max(0, numeric.findIndex((each) => each.name === "test accuracy"))] ?? numeric[0];
  const points = jobs.map((job, at) => ({ job, at, x: across.values[at], y: up.values[at] })).filter((point) => typeof point.x === "number" && typeof point.y === "number");
  const range = (values) => { const low = Math.min(...values), high = Math.max(...values); return [low, high - low || 1]; };
  const [left, width] = range(points.map((point) => point.x)), [low, height] = range(points.map((point) => point.y));
  const choose = (label, value, change) => html`<label>${label} <select value=${value} onChange=${(event) => change(Number(event.target.value))}>
    ${numeric.map((each, at) => html`<option key=${each.name} value=${at}>${each.name}</option>`)}</select></label>`;
  return html`<div class="filters">${choose("Across", x, setX)}${choose("Up", numeric.indexOf(up), setY)}</div>
    <svg class="scatter" viewBox="0 0 600 300" role="img" aria-label=${`${up.name} over ${across.name}`}>
      <rect x="50" y="10" width="540" height="250" class="frame" />
      ${points.map((point) => html`<g key=${point.job.id} transform=${`translate(${65 + (510 * (point.x - left)) / width} ${245 - (220 * (point.y - low)) / height})`}>
        <circle r="6" style=${`fill:var(${COLOURS[point.at % 8]})`} /><text x=${point.x - left > width * 0.7 ? -10 : 10} y="4" text-anchor=${point.x - left > width * 0.7 ? "end" : "start"}>${title(point.job)}</text></g>`)}
      <text x="65" y="280">${across.format(left)}</text><text x="575" y="280" text-anchor="end">${across.format(left + width)}</text><text x="320" y="296" text-anchor="middle">${across.name}</text>
      <text x="46" y="245" text-anchor="end">${up.format(low)}</text><text x="46" y="30" text-anchor="end">${up.format(low + height)}</text>
    </svg>`;
}

function Choose() {
  const [answer] = useAnswer((signal) => get("/jobs", { limit: 50 }, signal), []);
  const [chosen, setChosen] = useState([]);
  const toggle = (id) => setChosen((before) => (before.includes(id) ? before.filter((each) => each !== id) : [...before, id]));
  return html`<h1>Compare</h1><p>Choose two jobs or more, here or in the <a href="#/jobs">list of jobs</a>.</p>
    ${answer?.data.map((job) => html`<p key=${job.id}><label class="check"><input type="checkbox" checked=${chosen.includes(job.id)} onChange=${() => toggle(job.id)} />
      ${title(job)} <span class="muted">${job.spec.model.kind} on ${job.spec.dataset.name}, ${job.status}</span></label></p>`)}
    <button type="button" class="primary" disabled=${chosen.length < 2 || chosen.length > 20} onClick=${() => { location.hash = `#/compare?${chosen.map((id) => `job=${id}`).join("&")}`; }}>Compare</button>`;
}

function Sides({ ids }) {
  const [answer, , problem] = useAnswer((signal) => get("/compare", { job: ids }, signal), [ids.join()]);
  const [series, setSeries] = useState("val_loss");
  const [log, setLog] = useState(false);
  const [sort, setSort] = useState(null);
  const lines = useMemo(() => {
    if (!answer) return null;
    const epochs = [...new Set(answer.curves.flatMap((curve) => curve.data.map((row) => row.epoch)))].sort((a, b) => a - b);
    return { x: epochs, series: answer.curves.map((curve, at) => {
      const value = new Map(curve.data.map((row) => [row.epoch, row[series]]));
      return { name: title(answer.jobs[at]), values: epochs.map((epoch) => value.get(epoch) ?? null), colour: COLOURS[at % 8], dash: at >= 8 ? [6, 3] : undefined };
    }) };
  }, [answer, series]);
  if (!answer) return html`<h1>Compare</h1><${Wrong} problem=${problem} />${!problem && html`<${Waiting} />`}`;
  const columns = [
    ...answer.differences.map(({ field, values }) => ({ name: field, values, format: words, spec: true })),
    ...FIGURES.map(([name, of, format]) => ({ name, values: answer.jobs.map(of), format })),
  ];
  const order = answer.jobs.map((_, at) => at);
  if (sort) {
    const { values } = columns[sort.column];
    order.sort((a, b) => {
      if (values[a] === values[b]) return 0;
      if (values[a] === null || values[a] === undefined) return 1;
      if (values[b] === null || values[b] === undefined) return -1;
      return (values[a] < values[b] ? -1 : 1) * sort.way;
    });
  }
  const by = (column) => setSort((before) => (before?.column === column ? { column, way: -before.way } : { column, way: 1 }));
  return html`<div class="head"><h1>Compare ${answer.jobs.length} jobs</h1>
      <label>Curve <select value=${series} onChange=${(event) => setSeries(event.target.value)}>${SERIES.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>
      <label class="check"><input type="checkbox" checked=${log} onChange=${() => setLog(!log)} /> logarithmic</label></div>
    ${lines.x.length > 0 && html`<${Chart} label=${series} x=${lines.x} series=${lines.series} log=${log} height=${340} />`}
    <h2>Side by side</h2>
    <div class="scroll" tabindex="0" role="region" aria-label="Side by side"><table class="compare">
      <thead><tr><th scope="col">job</th><th scope="col">status</th>${columns.map((column, at) => html`<th scope="col" key=${column.name} class=${column.spec ? "differs" : ""}>
        <button type="button" class="plain sort" onClick=${() => by(at)}>${column.name}${sort?.column === at && (sort.way > 0 ? " ▲" : " ▼")}</button></th>`)}</tr></thead>
      <tbody>${order.map((at) => html`<tr key=${ids[at]}><th scope="row"><span class="dot" style=${`background:var(${COLOURS[at % 8]})`}></span><a href=${`#/jobs/${ids[at]}`}>${title(answer.jobs[at])}</a></th>
        <td><${Status} status=${answer.jobs[at].status} /></td>
        ${columns.map((column) => html`<td key=${column.name} class=${`number ${column.spec ? "differs" : ""}`}>${column.values[at] === undefined || column.values[at] === null ? "–" : column.format(column.values[at])}</td>`)}</tr>`)}</tbody></table></div>
    <p class="muted">${answer.differences.length ? `The specs differ in what is marked; all other fields are the same.` : "The specs are the same, names and tags apart."}</p>
    <h2>Any two columns</h2><${Scatter} columns=${columns} jobs=${answer.jobs} />`;
}

export default function Compare({ query }) {
  const ids = query.getAll("job");
  return ids.length < 2 ? html`<${Choose} />` : html`<${Sides} ids=${ids} />`;
}
