// Cards in and out of the desk. A decision shows the card that was fetched ahead at once and is sent behind it, one
// request at a time and in order; what the server refuses comes back as it was typed.

const desk = { ahead: null, back: [], sending: new Set(), waiting: false, chain: Promise.resolve(), known: new WeakSet() };

export const shown = () => document.getElementById("card");
const held = () => [...new Set([shown(), desk.ahead, ...desk.back, ...desk.sending])].filter((card) => card?.dataset.lease);

// Do this when everything that was sent before has been answered.
export function inTurn(work) {
  desk.chain = desk.chain.then(work, work);
  return desk.chain;
}

export function post(url, body = new FormData()) {
  const token = document.querySelector("#card [name=csrf_token]")?.value ?? "";
  body.set("csrf_token", token);
  return fetch(url, { method: "POST", body, keepalive: true, headers: { "HX-Request": "true" } });
}

async function ask(url, body) {
  const response = await post(url, body).catch(() => null);
  if (response?.headers.get("HX-Redirect")) location.href = response.headers.get("HX-Redirect");
  const holder = document.createElement("template");
  holder.innerHTML = response ? await response.text() : "";
  const find = (selector) => holder.content.querySelector(selector);
  return { ok: response?.ok, card: find("#card"), notice: find("[hx-target='#notice']"), problem: find("#problem") };
}

// --- showing --------------------------------------------------------------------------------------

function show(card) {
  const before = shown();
  if (card === before) return;
  before.replaceWith(card);
  if (!desk.known.has(card)) htmx.process(card);
  desk.known.add(card);
  desk.waiting = false;
  document.getElementById("problem")?.setAttribute("hidden", "");
  document.dispatchEvent(new CustomEvent("card:shown", { detail: { card, before } }));
}

// A card has come: show it where somebody waits for one, else keep it ready.
function take(card) {
  if (desk.waiting && card.matches("form")) show(card);
  else keepAhead(card);
}

function keepAhead(card) {
  const progress = card.querySelector("[data-progress]"), stale = shown().querySelector("[data-progress]");
  if (progress && stale) stale.replaceWith(progress.cloneNode(true)); // counted anew with every decision
  if (!card.matches("form")) return; // "nothing left" is said when it is true
  if (!desk.ahead && card.dataset.record !== shown().dataset.record) desk.ahead = card;
}

function say({ notice, problem }) {
  if (notice) document.getElementById("notice").replaceChildren(...notice.childNodes);
  if (!problem) return;
  document.getElementById("problem").replaceWith(problem);
}

function noAnswer() {
  document.dispatchEvent(new CustomEvent("htmx:error")); // page.js says that the server does not answer
}

// Fetch the next card while this one is read.
export function fetchAhead() {
  return inTurn(async () => {
    const url = shown()?.dataset.ahead;
    if (!url || desk.ahead || desk.waiting) return;
    const answer = await ask(url, holding());
    if (answer.ok && answer.card) take(answer.card);
  });
}

function holding() {
  const body = new FormData();
  for (const card of held()) body.append("held", card.dataset.record);
  return body;
}

// --- deciding -------------------------------------------------------------------------------------

export function decide(form, button) {
  if (form.matches("[aria-busy]")) return;
  const body = new FormData(form, button);
  form.setAttribute("aria-busy", "true");
  desk.sending.add(form);
  const next = desk.ahead;
  desk.ahead = null;
  if (next) show(next);
  else desk.waiting = true;
  inTurn(() => deliver(form, body));
}

async function deliver(form, body) {
  for (const card of held()) if (card !== form) body.append("held", card.dataset.record);
  const answer = await ask(form.getAttribute("action"), body);
  form.removeAttribute("aria-busy");
  desk.sending.delete(form);
  if (!answer.ok) return bringBack(form, answer);
  sessionStorage.removeItem(`curator.draft:${form.dataset.record}`);
  say(answer);
  if (shown() === form || !shown().matches("form")) show(answer.card);
  else take(answer.card);
  if (!desk.ahead) fetchAhead();
}

function bringBack(form, answer) {
  const other = shown();
  desk.waiting = false;
  show(answer.card ?? form);
  if (other !== form && other.matches("form")) desk.ahead = other;
  if (answer.problem) say(answer);
  else if (!answer.card) noAnswer();
}

export function undo() {
  return inTurn(async () => {
    const answer = await ask(shown().dataset.undo);
    say(answer);
    if (!answer.ok) return answer.problem || noAnswer();
    const other = shown();
    show(answer.card);
    desk.ahead = other.matches("form") ? other : null;
  });
}

// --- looking about --------------------------------------------------------------------------------

export async function next() {
  const card = shown();
  if (!desk.ahead) await fetchAhead();
  if (!desk.ahead || card !== shown()) return;
  const ahead = desk.ahead;
  desk.ahead = null;
  desk.back.push(card);
  show(ahead);
  fetchAhead();
}

export function previous() {
  const card = desk.back.pop();
  if (!card) return;
  if (shown().matches("form")) desk.ahead = shown();
  show(card);
}

// --- reservations ---------------------------------------------------------------------------------

// Offline it fails, and nothing is lost: saving decides by the record's version, not by the reservation.
export function renew() {
  for (const card of held()) post(card.dataset.claim).catch(() => {});
}

export function release(typed) {
  for (const card of held()) {
    if (typed(card)) continue;
    const body = new FormData();
    body.set("until", card.querySelector("[name=until]").value);
    post(card.dataset.release, body).catch(() => {});
  }
}
