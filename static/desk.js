// The review desk: editing in place, reasons, quotations, time spent and the reservation.

import { clock, forget, keep, restore, typed } from "./drafts.js";
import { decide, fetchAhead, next, post, previous, release, renew, shown, undo } from "./outbox.js";

const desk = { card: null, since: 0, renewed: 0, active: 0, field: null };

const $ = (selector) => desk.card?.querySelector(selector);
const fields = () => [...desk.card.querySelectorAll("[data-original]")];

// --- a new card -----------------------------------------------------------------------------------

function begin(first = false) {
  const card = shown();
  if (!card || card === desk.card) return;
  Object.assign(desk, { card, since: performance.now(), renewed: Date.now(), active: Date.now(), field: null });
  forget();
  const heading = $("[data-focus]");
  heading?.setAttribute("data-focused", ""); // so that page.js does not take the focus away while a diff comes in
  for (const time of card.querySelectorAll("[data-clock]")) time.textContent = clock(new Date(time.dateTime));
  if (card.matches("form.desk:not(.conflict)")) bringBackTyped(card);
  if (first) return;
  heading?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function bringBackTyped(card) {
  for (const field of restore(card)) {
    if (field.dataset.original && field.dataset.original !== "turn") edit(null);
    const folded = field.closest("details");
    if (folded) folded.open = true;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

// --- editing in place -----------------------------------------------------------------------------

function edit(name) {
  if (!$(".edit")) return;
  $(".edit").open = true;
  desk.card.classList.add("editing");
  if (!name) return;
  const field = $(`textarea[name=${name}]`);
  field.focus();
  field.setSelectionRange(field.value.length, field.value.length);
}

function leaveField(field) {
  field.blur();
  if ($(".edit")?.open && fields().every((one) => one.value === one.defaultValue)) {
    $(".edit").open = false;
    desk.card.classList.remove("editing");
  }
  ($(".question:not(textarea)")?.checkVisibility() ? $(".question:not(textarea)") : document.getElementById("main"))?.focus();
}

// Put the marked words of a passage, or all of it, into the answer where the cursor was.
function quote(passage) {
  const marked = getSelection();
  const inside = !marked.isCollapsed && passage.contains(marked.anchorNode);
  const words = (inside ? marked.toString() : passage.querySelector(".text").textContent).trim();
  edit(null);
  const field = desk.field?.name?.startsWith("turns.") ? desk.field : $("textarea[name=answer]");
  const at = desk.field === field ? field.selectionEnd : field.value.length;
  const space = at && !/\s$/.test(field.value.slice(0, at)) ? " " : "";
  field.focus();
  field.setRangeText(space + words, at, at, "end");
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

async function mask() {
  const answer = await post(desk.card.dataset.mask, new FormData(desk.card)).catch(() => null);
  if (!answer?.ok) return;
  const masked = await answer.json();
  edit("answer");
  for (const field of fields()) {
    if (!(field.name in masked) || masked[field.name] === field.value) continue;
    field.value = masked[field.name];
    if (field.closest(".turn-edit")) field.closest(".turn-edit").open = true;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  }
}

// --- rejecting ------------------------------------------------------------------------------------

function openReasons(open) {
  const reasons = $("[data-reasons]"), reject = $("[data-action=reject]"), accept = $("[value=accept]");
  const plain = (button) => button.dataset.key.split(" ")[0];
  reasons.toggleAttribute("data-open", open);
  reject.setAttribute("aria-expanded", open);
  reject.toggleAttribute("data-enter", open);
  reject.dataset.key = plain(reject) + (open ? " enter ctrl+enter" : "");
  accept.dataset.key = plain(accept) + (open ? "" : " ctrl+enter");
  $("[data-rating]").dataset.keys = open ? "off" : "";
  if (open) reasons.scrollIntoView({ block: "nearest" });
  else reasons.querySelectorAll(":checked").forEach((box) => (box.checked = false));
}

function reject(event) {
  const reasons = $("[data-reasons]");
  const open = reasons.hasAttribute("data-open");
  if (!reasons.querySelector("input") || (open && reasons.querySelector(":checked"))) return; // let it be sent
  event.preventDefault();
  openReasons(true);
  reasons.focus();
  reasons.classList.toggle("wanting", open);
}

// --- passages -------------------------------------------------------------------------------------

function toPassages() {
  const all = [...desk.card.querySelectorAll(".passage")].filter((passage) => passage.checkVisibility());
  const at = all.findIndex((passage) => passage.contains(document.activeElement));
  const passage = all[(at + 1) % all.length];
  passage?.querySelector("input:checked, input")?.focus();
  passage?.scrollIntoView({ block: "nearest" });
}

function light(mark, on) {
  $(`.passage[id$="-${mark.dataset.passage}"]`)?.classList.toggle("lit", on);
}

// --- the reservation ------------------------------------------------------------------------------

const lease = () => Number(desk.card?.dataset.lease ?? 0) * 1000;

function stillHere() {
  desk.active = Date.now();
  warnBeforeEnd();
  if (!lease() || Date.now() - desk.renewed < lease() / 3) return;
  desk.renewed = Date.now();
  const end = $(".meta [data-clock]");
  if (end) end.textContent = clock(new Date(Date.now() + lease()));
  renew();
}

function warnBeforeEnd() {
  const warning = document.getElementById("ending");
  if (warning && lease()) warning.hidden = Date.now() - Math.max(desk.renewed, desk.active) < lease() * 0.8;
}

// --- events ---------------------------------------------------------------------------------------

const ACTIONS = {
  edit: () => edit("answer"),
  keep: () => openReasons(false),
  reject,
  quote: (event, button) => quote(button.closest(".passage")),
  mask,
  passages: toPassages,
  next,
  previous,
  undo: (event) => {
    event.preventDefault();
    undo();
  },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-action]");
  if (button && (desk.card?.contains(button) || button.dataset.action === "undo")) {
    ACTIONS[button.dataset.action]?.(event, button);
    return;
  }
  if (!desk.card?.matches("form.desk") || !desk.card.contains(event.target)) return;
  if (event.target.type === "radio") clearable(event.target);
  const text = event.target.closest(".question:not(textarea), .answer:not(textarea)");
  if (text && getSelection().isCollapsed && !event.target.closest("a")) edit(text.matches(".question") ? "question" : "answer");
});

function clearable(radio) {
  const again = radio.dataset.on !== undefined;
  for (const one of desk.card.querySelectorAll(`input[name="${radio.name}"]`)) delete one.dataset.on;
  if (again) radio.checked = false;
  else radio.dataset.on = "";
  keep();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && event.target.matches?.("#card textarea")) {
    event.preventDefault(); // the first Esc leaves the field, the next one closes the reasons
    leaveField(event.target);
  }
}, true);

document.addEventListener("focusin", (event) => {
  if (event.target.matches?.("textarea[data-original]")) desk.field = event.target;
});

document.addEventListener("toggle", (event) => {
  if (event.target.matches?.(".note[open], .turn-edit[open]")) event.target.querySelector("textarea").focus();
}, true);

document.addEventListener("submit", (event) => {
  if (event.target !== desk.card) return;
  $("[name=seconds]").value = ((performance.now() - desk.since) / 1000).toFixed(1);
  if (!desk.card.dataset.lease && !desk.card.matches(".conflict")) return; // a record's own page goes by plain POST
  event.preventDefault();
  forget();
  decide(desk.card, event.submitter);
});

document.addEventListener("input", (event) => {
  if (!desk.card?.contains(event.target)) return;
  if (event.target.matches("[data-reasons] input")) $("[data-reasons]").classList.remove("wanting");
  if (event.target.matches("textarea, input")) keep();
});

for (const [sign, on] of [["mouseover", true], ["mouseout", false]]) {
  document.addEventListener(sign, (event) => event.target.matches?.("mark[data-passage]") && light(event.target, on));
}

for (const sign of ["input", "keydown", "pointerdown", "wheel"]) {
  document.addEventListener(sign, stillHere, { passive: true });
}

document.addEventListener("card:shown", () => begin());
document.addEventListener("htmx:after:swap", () => {
  if (shown() === desk.card) return;
  begin();
  fetchAhead();
});

addEventListener("pagehide", () => release(typed));

setInterval(warnBeforeEnd, 5000);
begin(true);
fetchAhead();
