// Learning curves: of one run, or of two that are compared; fed again whenever the page's status is refreshed.

const { default: uPlot } = await import(document.querySelector("script[data-uplot]").dataset.uplot);
const HEIGHT = 220;
let plot;

const LINES = { train: { width: 1 }, other: { width: 2, dash: [6, 4] }, held: { width: 2.5, points: true } };

function drawn(host) {
  return Object.keys(LINES).filter((name) => host.dataset[name]);
}

function series(host) {
  const lines = drawn(host).map((name) => new Map(JSON.parse(host.dataset[name])));
  const steps = [...new Set(lines.flatMap((line) => [...line.keys()]))].sort((a, b) => a - b);
  return [steps, ...lines.map((line) => steps.map((step) => line.get(step)))];
}

function look(name) {
  const { points, ...line } = LINES[name];
  return { stroke: colour(name), ...line, points: { show: Boolean(points), size: 7, fill: colour(name) }, spanGaps: true };
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
      series: [{}, ...drawn(host).map(look)],
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
