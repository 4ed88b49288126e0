// Other settings of early stopping on a curve that is there: the API's replay, redrawn as the sliders move.

import { duration, html, number, useEffect, useRef, useState } from "/dashboard/parts.js";
import { call } from "/dashboard/api.js";

const SLIDERS = [
  ["patience", "Patience", 1, (job) => Math.max(20, 2 * (job.spec.early_stopping?.patience ?? 5)), 1],
  ["min_delta", "min_delta", 0, () => 0.01, 0.0001],
  ["delta_overfit", "delta_overfit", 0, () => 0.5, 0.005],
  ["overfit_patience", "Overfit patience", 1, (job) => Math.max(10, 2 * (job.spec.early_stopping?.overfit_patience ?? 3)), 1],
];
const USUAL = { patience: 5, min_delta: 1e-4, delta_overfit: 0.1, overfit_patience: 3 };

export function WhatIf({ job, epoch, tell }) {
  const [settings, setSettings] = useState(() => ({ ...(job.spec.early_stopping ?? USUAL) }));
  const [moved, setMoved] = useState(false);
  const [found, setFound] = useState(null);
  const turn = useRef(0);
  useEffect(() => {
    const mine = ++turn.current;
    const timer = setTimeout(async () => {
      const answer = await call("POST", `/jobs/${job.id}/early-stopping/replay`, settings).catch(() => null);
      if (mine !== turn.current || !answer) return;
      setFound(answer.data[0]);
      if (moved) tell(answer.data[0]);
    }, 60);
    return () => clearTimeout(timer);
  }, [settings, moved, epoch]);
  const set = (name, value) => { setMoved(true); setSettings((before) => ({ ...before, [name]: value })); };
  return html`<p class="muted">Where would other settings have stopped this curve? Nothing is trained.</p>
    <div class="sliders">${SLIDERS.map(([name, words, low, high, step]) => {
      const off = settings[name] === null;
      return html`<div key=${name}><label for=${`whatif-${name}`}>${words}</label>
        <input id=${`whatif-${name}`} type="range" min=${low} max=${high(job)} step=${step} value=${settings[name] ?? low} disabled=${off} onInput=${(event) => set(name, Number(event.target.value))} />
        <output for=${`whatif-${name}`}>${off ? "off" : settings[name]}</output>
        ${name !== "min_delta" && html`<label class="check"><input type="checkbox" checked=${!off} onChange=${() => set(name, off ? USUAL[name] : null)} /> on</label>`}</div>`;
    })}</div>
    <p class="whatif" role="status" data-epoch=${found?.epoch} data-reason=${found?.stop_reason ?? ""}>${found && (found.stop_reason
      ? html`Stops after epoch <strong>${found.epoch}</strong> for <strong>${found.stop_reason}</strong>, with the weights of epoch ${found.best_epoch} (val_loss ${number(found.best_val_loss)}).
          ${found.epochs_saved ? `Saves ${found.epochs_saved} epochs (${duration(found.seconds_saved)}) and gives up ${number(found.val_loss_given_up)} of val_loss.` : "Saves nothing."}`
      : html`Would not stop within these ${epoch} epochs; the best would be epoch ${found.best_epoch} (val_loss ${number(found.best_val_loss)}).`)}</p>`;
}
