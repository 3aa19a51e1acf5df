// One key, one button: a key clicks the first visible element whose data-key names it ("a", "?", "ctrl+enter").
// Keys are left alone inside text fields, with other modifiers, while held down, and while an input method composes.

const TEXT = "textarea, select, [contenteditable], input:not([type=checkbox], [type=radio], [type=button], [type=submit])";
const ALWAYS = ["ctrl+enter", "escape"]; // these work in text fields, and when single keys are switched off

function nameOf(event) {
  const key = event.key.toLowerCase();
  return event.ctrlKey || event.metaKey ? `ctrl+${key}` : key;
}

function ignored(event, name) {
  if (event.defaultPrevented || event.isComposing || event.keyCode === 229 || event.repeat || event.altKey) return true;
  if (ALWAYS.includes(name)) return false;
  return event.target.matches?.(TEXT) || document.body.dataset.singleKeys === "off";
}

function named(name) {
  const scope = document.querySelector("dialog[open]") ?? document;
  return [...scope.querySelectorAll(`[data-key~="${CSS.escape(name)}"]`)].find(
    (element) => !element.disabled && element.checkVisibility() && !element.closest("[data-keys=off]"),
  );
}

document.addEventListener("keydown", (event) => {
  if (!event.key) return;
  const name = nameOf(event);
  if (ignored(event, name)) return;
  const element = named(name);
  // Enter belongs to what has the focus; on a checkbox it would send the form.
  if (name === "enter" && !element?.matches("[data-enter]")) {
    if (event.target.matches?.("[type=checkbox], [type=radio]")) event.preventDefault();
    return;
  }
  if (!element || (name === "enter" && event.target.closest?.("button, a, summary"))) return;
  event.preventDefault();
  if (element.matches(TEXT)) element.focus();
  else element.click();
});

for (const panel of document.querySelectorAll("dialog")) {
  panel.addEventListener("click", (event) => {
    if (event.target === panel || event.target.closest("[data-dialog-close]")) {
      event.preventDefault();
      panel.close();
    }
  });
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest?.("[data-dialog]");
  if (!opener) return;
  event.preventDefault();
  document.getElementById(opener.dataset.dialog)?.showModal();
});
