// The learning curve: drawn once, fed again whenever the page's status is refreshed.

const { default: uPlot } = await import(document.querySelector("script[data-uplot]").dataset.uplot);
const HEIGHT = 220;
let plot;

function series(host) {
  const train = new Map(JSON.parse(host.dataset.train));
  const held = new Map(JSON.parse(host.dataset.held));
  const steps = [...new Set([...train.keys(), ...held.keys()])].sort((a, b) => a - b);
  return [steps, steps.map((step) => train.get(step)), steps.map((step) => held.get(step))];
}

// Colours come from the page's own, so that both themes fit; custom properties alone would not be resolved.
function colour(name) {
  return getComputedStyle(document.querySelector(`.curve .${name}`)).color;
}

function draw() {
  const host = document.getElementById("curve");
  if (!host) return;
  if (plot?.root.isConnected) {
    plot.setData(series(host));
    return;
  }
  plot?.destroy();
  host.replaceChildren();
  const axis = { stroke: colour("axis"), grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
  plot = new uPlot(
    {
      width: host.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false } },
      axes: [{ ...axis, grid: { show: false } }, { ...axis, size: 44 }],
      series: [
        {},
        { stroke: colour("train"), width: 1, points: { show: false }, spanGaps: true },
        { stroke: colour("held"), width: 2.5, points: { show: true, size: 7, fill: colour("held") }, spanGaps: true },
      ],
    },
    series(host),
    host,
  );
}

function again() {
  plot?.destroy();
  plot = undefined;
  draw();
}

addEventListener("resize", () => {
  const host = document.getElementById("curve");
  if (host && plot) plot.setSize({ width: host.clientWidth, height: HEIGHT });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
document.addEventListener("htmx:after:swap", draw);
draw();
