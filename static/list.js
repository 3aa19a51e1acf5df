// Move through the lines of a list with two keys: the buttons with data-step are clicked by keys.js.

let last = -1;

const lines = () => [...document.querySelectorAll("[data-line]")];

document.addEventListener("focusin", (event) => {
  const at = lines().indexOf(event.target);
  if (at >= 0) last = at;
});

document.addEventListener("click", (event) => {
  const stepper = event.target.closest?.("[data-step]");
  if (!stepper) return;
  const all = lines();
  const line = all[Math.max(0, Math.min(all.length - 1, last + Number(stepper.dataset.step)))];
  line?.focus();
  line?.scrollIntoView({ block: "nearest" });
});
