// Curves by uPlot, which is loaded with the first chart: drag pans, the wheel zooms, a double click shows all again.

import { html, useEffect, useRef } from "/dashboard/parts.js";

let loading = null;
export function loadPlot() {
  loading ??= new Promise((resolve, reject) => {
    const style = document.createElement("link");
    style.rel = "stylesheet";
    style.href = "/dashboard/vendor/uPlot.min.css";
    const script = document.createElement("script");
    script.src = "/dashboard/vendor/uPlot.iife.min.js";
    script.onload = () => resolve(window.uPlot);
    script.onerror = () => reject(new Error("the chart's code cannot be loaded"));
    document.head.append(style, script);
  });
  return loading;
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Pan and zoom on x. `seen(from, to)` hears of the stretch that is shown. */
function movable(seen) {
  const limits = (plot) => {
    const x = plot.data[0];
    return [x[0], x[x.length - 1]];
  };
  const show = (plot, from, to) => {
    const [first, last] = limits(plot);
    const width = Math.min(Math.max(to - from, Math.min(4, last - first || 1)), last - first || 1);
    const start = Math.min(Math.max(from, first), last - width);
    plot.setScale("x", { min: start, max: start + width });
    seen(start, start + width);
  };
  return {
    hooks: {
      ready: (plot) => {
        const over = plot.over;
        plot.whistlestopShow = (from, to) => show(plot, from, to);
        over.addEventListener("wheel", (event) => {
          event.preventDefault();
          const { min, max } = plot.scales.x;
          const at = plot.posToVal(event.offsetX, "x");
          const factor = event.deltaY < 0 ? 0.8 : 1.25;
          show(plot, at - (at - min) * factor, at + (max - at) * factor);
        }, { passive: false });
        over.addEventListener("pointerdown", (down) => {
          const { min, max } = plot.scales.x;
          const unit = (max - min) / over.clientWidth;
          const move = (event) => show(plot, min - (event.clientX - down.clientX) * unit, max - (event.clientX - down.clientX) * unit);
          const up = () => { removeEventListener("pointermove", move); removeEventListener("pointerup", up); };
          addEventListener("pointermove", move);
          addEventListener("pointerup", up);
        });
        over.addEventListener("dblclick", () => { const [first, last] = limits(plot); show(plot, first, last); });
      },
    },
  };
}

/** Vertical lines `{epoch, words, colour}` over the curves. */
function marked(marks) {
  return {
    hooks: {
      draw: (plot) => {
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
        marks.current.forEach(({ epoch, words, colour: name, dash }, index) => {
          if (epoch < plot.scales.x.min || epoch > plot.scales.x.max) return;
          const x = plot.valToPos(epoch, "x", true);
          ctx.strokeStyle = ctx.fillStyle = colour(name);
          ctx.lineWidth = devicePixelRatio;
          ctx.setLineDash((dash ?? []).map((length) => length * devicePixelRatio));
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
          const right = x > bbox.left + bbox.width * 0.75;
          ctx.textAlign = right ? "right" : "left";
          ctx.fillText(words, x + (right ? -4 : 4) * devicePixelRatio, bbox.top + (12 + 14 * index) * devicePixelRatio);
        });
        ctx.restore();
      },
    },
  };
}

/** `series`: `{name, values, colour, dash}` over the epochs `x`. */
export function Chart({ label, x, series, marks = [], log = false, format = (value) => value.toPrecision(4), height = 260, sync, seen = () => {} }) {
  const box = useRef(null), plot = useRef(null), window_ = useRef(null);
  const markers = useRef(marks), watcher = useRef(seen);
  markers.current = marks;
  watcher.current = seen;
  const shape = JSON.stringify([series.map((each) => [each.name, each.colour, each.dash]), log, height]);
  useEffect(() => {
    let gone = false, sizes = null, scheme = null;
    const build = (uPlot) => {
      if (gone) return;
      plot.current?.destroy();
      const axis = { stroke: colour("--ink"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
      plot.current = new uPlot({
        width: box.current.clientWidth || 600,
        height,
        cursor: { drag: { x: false, y: false }, sync: sync ? { key: sync } : undefined },
        scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
        axes: [{ ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000] }, { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : format(tick, true))) }],
        series: [{ label: "epoch" }, ...series.map((each) => ({
          label: each.name, stroke: colour(each.colour) || each.colour, width: 1.6, dash: each.dash, points: { show: x.length < 40, size: 4 }, value: (_, value) => (value === null || value === undefined ? "–" : format(value)),
        }))],
        plugins: [movable((from, to) => { window_.current = [from, to]; watcher.current(from, to); }), marked(markers)],
      }, [x, ...series.map((each) => each.values)], box.current);
      if (window_.current) plot.current.setScale("x", { min: window_.current[0], max: window_.current[1] });
    };
    loadPlot().then((uPlot) => {
      build(uPlot);
      sizes = new ResizeObserver(() => plot.current?.setSize({ width: box.current.clientWidth, height }));
      if (!gone) sizes.observe(box.current);
      scheme = matchMedia("(prefers-color-scheme: dark)");
      scheme.onchange = () => build(uPlot);
    });
    return () => { gone = true; sizes?.disconnect(); if (scheme) scheme.onchange = null; plot.current?.destroy(); plot.current = null; };
  }, [shape]);
  useEffect(() => {
    if (!plot.current) return;
    const before = plot.current.data[0], { min, max } = plot.current.scales.x;
    // Who looks at everything goes on doing so; who has moved stays where they are.
    const whole = !window_.current || (min <= before[0] && max >= before[before.length - 1]);
    if (whole) window_.current = null;
    plot.current.setData([x, ...series.map((each) => each.values)], whole);
    if (!whole) plot.current.setScale("x", { min, max });
  }, [x, series]);
  useEffect(() => plot.current?.redraw(false), [marks]);

  const move = (from, to) => () => {
    if (!plot.current) return;
    const { min, max } = plot.current.scales.x;
    plot.current.whistlestopShow(min + from * (max - min), max + to * (max - min));
  };
  return html`<figure class="chart" aria-label=${label}>
    <div class="canvas" ref=${box}></div>
    <div class="moves" role="group" aria-label=${`Move ${label}`}>
      <button type="button" title="Earlier" aria-label="Earlier" onClick=${move(-0.3, -0.3)}>←</button>
      <button type="button" title="Zoom in" aria-label="Zoom in" onClick=${move(0.2, -0.2)}>+</button>
      <button type="button" title="Zoom out" aria-label="Zoom out" onClick=${move(-0.34, 0.34)}>−</button>
      <button type="button" title="Later" aria-label="Later" onClick=${move(0.3, 0.3)}>→</button>
      <button type="button" onClick=${move(-1e9, 1e9)}>all</button>
    </div>
  </figure>`;
}
