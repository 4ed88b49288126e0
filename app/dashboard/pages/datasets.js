// Data sets: what is there, what is in it, and a place to upload more.

import { Bars, Picture, Waiting, Wrong, attempt, bytes, html, say, useAnswer, useState } from "/dashboard/parts.js";
import { Problem, call, get } from "/dashboard/api.js";

const figures = (values) => values.map((value) => value.toFixed(3)).join(", ");

function Dataset({ dataset, again }) {
  const { name, classes, shape } = dataset;
  const [open, setOpen] = useState(false);
  const count = (split) => classes.reduce((sum, each) => sum + each[split], 0).toLocaleString();
  const remove = async () => { if (confirm(`Delete the data set ${name}?`) && (await attempt("DELETE", `/datasets/${name}`, undefined, `${name} is deleted.`))) again(); };
  return html`<section class="box" aria-labelledby=${`dataset-${name}`}>
    <div class="head"><h2 id=${`dataset-${name}`}>${name}</h2><span class="tag">${dataset.kind}</span>
      <span class=${dataset.prepared ? "good" : "muted"}>${dataset.prepared ? "prepared" : "the first job prepares it"}</span></div>
    ${dataset.description && html`<p>${dataset.description}</p>`}
    <p class="muted">${classes && `${count("train")} training and ${count("test")} test images in ${classes.length} classes. `}
      ${shape && `${shape[2]} × ${shape[1]} pixels, ${shape[0] === 1 ? "grey" : "colour"}. `}${dataset.size !== null && bytes(dataset.size)}
      ${dataset.mean && html`<br />mean ${figures(dataset.mean)}; standard deviation ${figures(dataset.std)}`}</p>
    ${dataset.prepared && html`<details onToggle=${(event) => setOpen(event.target.open)}><summary>Classes and images</summary>
      ${open && html`<div class="sheet"><${Picture} path=${`/datasets/${name}/contact-sheet.png`} alt=${`Training images of ${name}, a row for each class`} />
        <${Bars} rows=${classes.slice(0, 40).map((each) => ({ name: each.name, value: each.train, words: `${each.train.toLocaleString()} + ${each.test.toLocaleString()}` }))} /></div>`}</details>`}
    <p><a class="button" href="#/new">Train on it</a>${dataset.kind === "own" && html` <button type="button" onClick=${remove}>Delete</button>`}</p>
  </section>`;
}

function Upload({ again }) {
  const [wrong, setWrong] = useState(null);
  const [busy, setBusy] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target), file = form.get("archive"), name = form.get("name");
    setBusy(true);
    setWrong(null);
    try {
      await call("POST", `/datasets?name=${encodeURIComponent(name)}`, file, "application/octet-stream");
      say(`${name} is there.`);
      event.target.reset();
      again();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      setWrong(problem);
    }
    setBusy(false);
  };
  return html`<section class="box"><h2>Upload your own</h2>
    <p class="muted">A .tar, .tar.gz or .zip with <code>train/CLASS/*</code> and <code>test/CLASS/*</code> in it. It is looked through before it is accepted.</p>
    <${Wrong} problem=${wrong} />
    <form class="filters" onSubmit=${send}>
      <label>Name <input name="name" required pattern="[a-z0-9][a-z0-9._\\-]*" placeholder="pets" /></label>
      <label>Archive <input name="archive" type="file" required accept=".tar,.gz,.tgz,.zip" /></label>
      <button class="primary" disabled=${busy}>${busy ? "Uploading and looking through…" : "Upload"}</button></form></section>`;
}

export default function Datasets() {
  const [answer, again, problem] = useAnswer((signal) => get("/datasets", {}, signal), []);
  return html`<h1>Data sets</h1><${Wrong} problem=${problem} />${!answer && !problem && html`<${Waiting} />`}
    <${Upload} again=${again} />
    <div class="cards">${answer?.data.map((dataset) => html`<${Dataset} key=${dataset.name} dataset=${dataset} again=${again} />`)}</div>`;
}
