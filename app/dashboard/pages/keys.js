// API keys: make, list, revoke.

import { Copy, Time, Waiting, Wrong, attempt, html, useAnswer, useState } from "/dashboard/parts.js";
import { get } from "/dashboard/api.js";

export default function Keys() {
  const [answer, again, problem] = useAnswer((signal) => get("/keys", {}, signal), []);
  const [made, setMade] = useState(null);
  const create = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target), most = form.get("max_jobs");
    const key = await attempt("POST", "/keys", { name: form.get("name"), scopes: form.getAll("scope"), max_jobs: most ? Number(most) : null });
    if (!key) return;
    setMade(key);
    event.target.reset();
    again();
  };
  const revoke = async (name) => { if (confirm(`Revoke the key ${name}? It is useless then, for good.`) && (await attempt("POST", `/keys/${name}/revoke`, undefined, `${name} is revoked.`))) again(); };
  return html`<h1>Keys</h1>
    <p class="muted">Keys are needed unless the API listens on loopback only (<code>WHISTLESTOP_AUTH</code>).</p>
    <${Wrong} problem=${problem} />${!answer && !problem && html`<${Waiting} />`}
    ${made && html`<div class="box good" role="status"><p>The key <strong>${made.name}</strong>, shown this once:</p><p><code class="secret">${made.secret}</code> <${Copy} text=${made.secret}>Copy</${Copy}></p></div>`}
    <form class="filters box" onSubmit=${create}>
      <label>Name <input name="name" required pattern="[\\w.@\\-]+" maxlength="64" placeholder="lab" /></label>
      <fieldset class="inline"><legend>Scopes</legend>${["read", "submit", "admin"].map((scope) => html`<label key=${scope} class="check"><input type="checkbox" name="scope" value=${scope} defaultChecked=${scope === "submit"} /> ${scope}</label>`)}</fieldset>
      <label>Most jobs under way <input name="max_jobs" type="number" min="1" placeholder="no limit" /></label>
      <button class="primary">Make a key</button></form>
    ${answer?.data.length > 0 && html`<div class="scroll" tabindex="0" role="region" aria-label="Keys"><table>
      <thead><tr><th scope="col">name</th><th scope="col">scopes</th><th scope="col">most jobs</th><th scope="col">made</th><th scope="col">state</th></tr></thead>
      <tbody>${answer.data.map((key) => html`<tr key=${key.id}><th scope="row">${key.name}</th><td>${key.scopes.join(", ")}</td><td class="number">${key.max_jobs ?? "–"}</td><td><${Time} at=${key.created_at} /></td>
        <td>${key.revoked_at ? html`revoked <${Time} at=${key.revoked_at} />` : html`<button type="button" onClick=${() => revoke(key.name)}>Revoke</button>`}</td></tr>`)}</tbody></table></div>`}
    ${answer && !answer.data.length && html`<p>There is no key yet.</p>`}`;
}
