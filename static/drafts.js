// Drafts: what is typed into a card is kept on the server; in this tab only until the server has it.

import { inTurn, post, shown } from "./outbox.js";

const DRAFT_MS = 800;
let timer = 0;

const name = (card) => `curator.draft:${card.dataset.record}`;
const texts = (card) => [...card.querySelectorAll("textarea")];

export function typed(card) {
  return texts(card).some((field) => field.value !== field.defaultValue);
}

export function keep() {
  const card = shown();
  clearTimeout(timer);
  if (!card?.dataset.draft) return;
  try {
    sessionStorage.setItem(name(card), JSON.stringify(Object.fromEntries(texts(card).map((field) => [field.name, field.value]))));
  } catch {
    // no room or no storage: the text is still on the page
  }
  timer = setTimeout(() => inTurn(() => save(card)), DRAFT_MS);
}

export function forget() {
  clearTimeout(timer);
}

async function save(card) {
  if (card !== shown() || card.matches("[aria-busy]")) return;
  const answer = await post(card.dataset.draft, new FormData(card)).catch(() => null);
  if (!answer?.ok) return;
  sessionStorage.removeItem(name(card));
  const line = card.querySelector(".kept");
  line.textContent = `${line.dataset.kept} ${clock(new Date())}`;
}

// A text that never reached the server is put back into its fields; answers the fields that changed.
export function restore(card) {
  const kept = JSON.parse(sessionStorage.getItem(name(card)) ?? "null");
  if (!kept) return [];
  const changed = texts(card).filter((field) => field.name in kept && field.value !== kept[field.name]);
  for (const field of changed) field.value = kept[field.name];
  return changed;
}

export function clock(moment) {
  return moment.toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
}
