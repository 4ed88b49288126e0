// Workers: where they are, what they have, what they take, what they run.

import { Bar, Time, Waiting, Wrong, bytes, html, useAnswer, useEffect } from "/dashboard/parts.js";
import { get } from "/dashboard/api.js";

const EVERY = 2000;

function Share({ label, share, words }) {
  return html`<p class="share"><span>${label}</span><${Bar} share=${share} label=${label} /><span>${words}</span></p>`;
}

function Worker({ worker }) {
  const { usage } = worker;
  return html`<section class="box" aria-label=${`Worker ${worker.id}`}>
    <div class="head"><h2>${worker.host} <small class="muted">process ${worker.pid}</small></h2><span class="status ${worker.status}">${worker.status}</span></div>
    <p>${worker.device} (${worker.device_name}); ${Object.entries(worker.versions).map(([name, version]) => `${name} ${version}`).join(", ")}</p>
    <${Share} label="Slots" share=${(100 * worker.running.length) / worker.slots} words=${`${worker.running.length} of ${worker.slots} in use`} />
    ${usage && worker.status === "live" && html`<${Share} label="CPU" share=${usage.cpu_percent} words=${`${usage.cpu_percent}% of all cores`} />
      <${Share} label="Memory" share=${(100 * usage.memory) / usage.memory_total} words=${`${bytes(usage.memory)} of ${bytes(usage.memory_total)}`} />
      ${usage.gpu_percent !== null && html`<${Share} label="GPU" share=${usage.gpu_percent} words=${`${usage.gpu_percent}%`} />
        <${Share} label="GPU memory" share=${(100 * usage.gpu_memory) / usage.gpu_memory_total} words=${`${bytes(usage.gpu_memory)} of ${bytes(usage.gpu_memory_total)}`} />`}`}
    <p>${worker.running.length ? html`Runs ${worker.running.map((id) => html`<a key=${id} href=${`#/jobs/${id}`}>${id.slice(-12)}</a> `)}` : html`<span class="muted">Runs nothing.</span>`}</p>
    <p class="muted">Started <${Time} at=${worker.started_at} />, heard of <${Time} at=${worker.heartbeat_at} />.</p>
  </section>`;
}

export default function Workers() {
  const [answer, again, problem] = useAnswer((signal) => get("/workers", {}, signal), []);
  useEffect(() => { const timer = setInterval(again, EVERY); return () => clearInterval(timer); }, []);
  return html`<h1>Workers</h1><${Wrong} problem=${problem} />${!answer && !problem && html`<${Waiting} />`}
    ${answer && !answer.data.length && html`<p class="box">No worker was heard of for a day. Start one with <code>python -m worker</code>; jobs wait until then.</p>`}
    <div class="cards">${answer?.data.map((worker) => html`<${Worker} key=${worker.id} worker=${worker} />`)}</div>`;
}
