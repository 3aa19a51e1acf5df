// The review desk: editing in place, reasons, time spent, the reservation, and drafts that outlive a mishap.

const DRAFT_MS = 800;
const desk = { card: null, since: 0, renewed: 0, active: 0, draftTimer: 0 };

const $ = (selector) => desk.card?.querySelector(selector);
const fields = () => [...desk.card.querySelectorAll("[data-original]")];
const draftKey = () => `curator.draft:${desk.card.dataset.record}:${desk.card.dataset.version}`;

// --- a new card ---------------------------------------------------------------------------------

function begin() {
  const card = document.getElementById("card");
  if (!card || card === desk.card) return;
  const first = desk.card === null;
  Object.assign(desk, { card, since: performance.now(), renewed: Date.now(), active: Date.now() });
  clearTimeout(desk.draftTimer);
  const heading = $("[data-focus]");
  heading?.setAttribute("data-focused", ""); // so that page.js does not take the focus away while a diff comes in
  if (!first) heading?.focus({ preventScroll: true });
  if (card.matches("form.desk:not(.conflict)")) {
    sendFields(false);
    restoreDraft();
  }
  if (!first) {
    scrollTo(0, 0);
    document.getElementById("problem")?.setAttribute("hidden", "");
  }
}

// --- editing in place ---------------------------------------------------------------------------

// What nobody has edited is not sent; a correction that stands already is.
function sendFields(send) {
  const corrected = $(".edit")?.hasAttribute("data-corrected");
  fields().forEach((field) => (field.disabled = !send && !corrected));
}

function edit(name) {
  if (!$(".edit")) return;
  $(".edit").open = true;
  desk.card.classList.add("editing");
  sendFields(true);
  if (name) {
    const field = $(`textarea[name=${name}]`);
    field.focus();
    field.setSelectionRange(field.value.length, field.value.length);
  }
}

function leaveField(field) {
  field.blur();
  if ($(".edit")?.open && fields().every((one) => one.value === one.defaultValue)) {
    $(".edit").open = false;
    desk.card.classList.remove("editing");
    sendFields(false);
  }
  ($(".question:not(textarea)")?.checkVisibility() ? $(".question:not(textarea)") : document.getElementById("main"))?.focus();
}

// --- rejecting ----------------------------------------------------------------------------------

function openReasons(open) {
  const reasons = $("[data-reasons]"), reject = $("[data-action=reject]"), accept = $("[value=accept]");
  reasons.toggleAttribute("data-open", open);
  reject.setAttribute("aria-expanded", open);
  reject.toggleAttribute("data-enter", open);
  reject.dataset.key = open ? "r enter ctrl+enter" : "r";
  accept.dataset.key = open ? "a" : "a ctrl+enter";
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

// --- drafts: kept in this tab until the server has the text ---------------------------------------

function keepDraft() {
  clearTimeout(desk.draftTimer);
  const key = draftKey(), card = desk.card;
  desk.draftTimer = setTimeout(() => {
    if (card !== desk.card) return;
    const typed = Object.fromEntries([...card.querySelectorAll("textarea")].map((field) => [field.name, field.value]));
    try {
      sessionStorage.setItem(key, JSON.stringify(typed));
    } catch {
      // no room or no storage: the text is still on the page
    }
  }, DRAFT_MS);
}

function restoreDraft() {
  const typed = JSON.parse(sessionStorage.getItem(draftKey()) ?? "null");
  if (!typed) return;
  if (["question", "answer"].some((name) => name in typed && typed[name] !== $(`textarea[name=${name}]`)?.value)) edit(null);
  for (const [name, value] of Object.entries(typed)) {
    const field = $(`textarea[name=${name}]`);
    if (!field || field.value === value) continue;
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
    if (name === "comment") $(".note").open = true;
  }
}

function typedSomething() {
  return [...desk.card.querySelectorAll("textarea:enabled")].some((field) => field.value !== field.defaultValue);
}

// --- the reservation ------------------------------------------------------------------------------

function post(url, values = {}) {
  const body = new FormData();
  body.set("csrf_token", $("[name=csrf_token]").value);
  for (const [name, value] of Object.entries(values)) body.set(name, value);
  return fetch(url, { method: "POST", body, keepalive: true });
}

async function stillHere() {
  desk.active = Date.now();
  const lease = Number(desk.card?.dataset.lease ?? 0) * 1000;
  warnBeforeEnd();
  if (!lease || Date.now() - desk.renewed < lease / 3) return;
  desk.renewed = Date.now();
  await post(desk.card.dataset.claim).catch(() => {}); // offline: saving decides by version, not by reservation
}

function warnBeforeEnd() {
  const lease = Number(desk.card?.dataset.lease ?? 0) * 1000;
  const warning = document.getElementById("ending");
  if (warning && lease) warning.hidden = Date.now() - Math.max(desk.renewed, desk.active) < lease * 0.8;
}

// --- events ---------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  const card = event.target.closest?.("form.desk");
  if (!card || card !== desk.card) return;
  const action = event.target.closest("[data-action]")?.dataset.action;
  if (action === "edit") edit("answer");
  else if (action === "keep") openReasons(false);
  else if (action === "reject") reject(event);
  else if (event.target.type === "radio") clearable(event.target);
  else {
    const text = event.target.closest(".question:not(textarea), .answer:not(textarea)");
    if (text && getSelection().isCollapsed) edit(text.matches(".question") ? "question" : "answer");
  }
});

function clearable(radio) {
  const again = radio.dataset.on !== undefined;
  for (const one of $("[data-rating]").querySelectorAll("input")) delete one.dataset.on;
  if (again) radio.checked = false;
  else radio.dataset.on = "";
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing && event.target.matches?.("#card textarea")) {
    event.preventDefault(); // the first Esc leaves the field, the next one closes the reasons
    leaveField(event.target);
  }
}, true);

document.addEventListener("toggle", (event) => {
  if (event.target.matches?.(".note[open]")) event.target.querySelector("textarea").focus();
}, true);

document.addEventListener("submit", (event) => {
  const spent = event.target.querySelector?.("[name=seconds]");
  if (spent && event.target === desk.card) spent.value = ((performance.now() - desk.since) / 1000).toFixed(1);
}, true);

document.addEventListener("input", (event) => {
  if (event.target.matches?.("#card textarea")) keepDraft();
  if (event.target.matches?.("[data-reasons] input")) $("[data-reasons]").classList.remove("wanting");
});

for (const sign of ["input", "keydown", "pointerdown", "wheel"]) {
  document.addEventListener(sign, stillHere, { passive: true });
}

document.addEventListener("htmx:after:swap", () => {
  const before = desk.card;
  if (before?.matches("form.desk") && !before.isConnected && !document.querySelector("#card.conflict")) {
    sessionStorage.removeItem(`curator.draft:${before.dataset.record}:${before.dataset.version}`);
  }
  begin();
});

addEventListener("pagehide", () => {
  if (desk.card?.dataset.release && !typedSomething()) {
    post(desk.card.dataset.release, { until: $("[name=until]").value }).catch(() => {});
  }
});

setInterval(warnBeforeEnd, 5000);
begin();
