// Ctrl-K: everything that can be done on this page and every page one can go to, found by typing.

const palette = document.getElementById("palette");
const field = palette?.querySelector("input");
const list = palette?.querySelector("ul");
let things = [], chosen = 0;

const wordsOf = (element) => {
  const copy = element.cloneNode(true);
  copy.querySelectorAll("kbd, .news").forEach((mark) => mark.remove());
  return (element.getAttribute("aria-label") ?? copy.textContent).replace(/\s+/g, " ").trim();
};

function gather() {
  const buttons = [...document.querySelectorAll("main [data-key]:is(button, a, summary), .top nav a, .top .brand, .top .who")];
  const seen = new Set();
  return buttons.filter((one) => !one.disabled && one.checkVisibility())
    .map((one) => ({ words: wordsOf(one), key: one.dataset.key?.split(" ")[0] ?? "", act: () => one.click() }))
    .filter(({ words }) => words && !seen.has(words) && seen.add(words));
}

function fitting() {
  const typed = field.value.trim().toLowerCase();
  const found = things.filter(({ words }) => words.toLowerCase().includes(typed));
  const search = document.querySelector(".find");
  if (typed && search) {
    found.push({ words: `${palette.dataset.find} \u201c${field.value.trim()}\u201d`, key: "", act: () => {
      search.querySelector("input").value = field.value.trim();
      search.requestSubmit();
    } });
  }
  return found;
}

function draw() {
  const found = fitting();
  chosen = Math.min(chosen, Math.max(0, found.length - 1));
  list.replaceChildren(...found.map(({ words, key }, at) => {
    const line = Object.assign(document.createElement("li"), { id: `palette-${at}`, textContent: words });
    line.setAttribute("role", "option");
    line.setAttribute("aria-selected", at === chosen);
    if (key) line.append(" ", Object.assign(document.createElement("kbd"), { textContent: key.toUpperCase() }));
    return line;
  }));
  field.setAttribute("aria-activedescendant", found.length ? `palette-${chosen}` : "");
  list.children[chosen]?.scrollIntoView({ block: "nearest" });
}

function take(at) {
  const thing = fitting()[at];
  palette.close();
  thing?.act();
}

document.addEventListener("keydown", (event) => {
  if (!palette || event.isComposing || event.key?.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  things = gather();
  chosen = 0;
  field.value = "";
  if (!palette.open) palette.showModal();
  draw();
  field.focus();
}, true);

field?.addEventListener("input", () => {
  chosen = 0;
  draw();
});
field?.addEventListener("keydown", (event) => {
  if (event.isComposing) return;
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) chosen = Math.max(0, Math.min(list.children.length - 1, chosen + step));
  else if (event.key === "Enter") return event.preventDefault(), take(chosen);
  else return;
  event.preventDefault();
  draw();
});
list?.addEventListener("click", (event) => {
  const line = event.target.closest("li");
  if (line) take([...list.children].indexOf(line));
});
