// Two answers, token by token. Text is only ever appended as text, and nothing here knows which model is which.

const WAITS = 60; // how often a busy server is asked again before giving up
const LONGEST_EVENT = 1 << 20;

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
const battle = () => document.getElementById("battle");

function show(answer, state, trouble = "") {
  const pane = answer.closest(".pane");
  answer.dataset.state = state;
  answer.toggleAttribute("aria-busy", state === "writing");
  const line = pane.querySelector("[data-trouble]");
  line.textContent = trouble;
  line.hidden = !trouble;
  const again = pane.querySelector("[data-retry]");
  if (again) again.hidden = !trouble;
  settle();
}

// A vote means something when both sides have answered everything.
function settle() {
  const answers = [...document.querySelectorAll("[data-stream]")];
  if (!answers.length) return;
  const complete = answers.every((answer) => answer.dataset.state === "done");
  for (const button of document.querySelectorAll("[data-when-complete]")) button.disabled = !complete;
  const said = document.getElementById("said");
  if (complete && said && !said.textContent) said.textContent = said.dataset.complete;
}

async function open(url, signal) {
  for (let tries = 0; tries < WAITS; tries += 1) {
    const response = await fetch(url, { headers: { Accept: "text/event-stream" }, signal });
    if (response.status !== 429) return response;
    await pause(Number(response.headers.get("Retry-After")) || 2);
  }
  throw new Error("busy");
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const block = text.slice(0, end);
      text = text.slice(end + 2);
      const kind = /^event: (\w+)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (kind && data) yield { kind, text: JSON.parse(data).text };
    }
    if (text.length > LONGEST_EVENT) throw new Error("too long");
  }
}

async function write(answer) {
  const aborter = new AbortController();
  answer.textContent = "";
  show(answer, "writing");
  try {
    const response = await open(answer.dataset.stream, aborter.signal);
    if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) throw new Error("no stream");
    for await (const event of events(response)) {
      if (!answer.isConnected) return aborter.abort();
      if (event.kind === "text") answer.append(event.text);
      if (event.kind === "error") return show(answer, "trouble", event.text);
      if (event.kind === "done") {
        if (answer.textContent !== event.text) answer.textContent = event.text;
        return show(answer, "done");
      }
    }
    throw new Error("broke off");
  } catch {
    if (answer.isConnected) show(answer, "trouble", battle().dataset.broken);
  }
}

function begin() {
  for (const answer of document.querySelectorAll("[data-stream][data-state=waiting]")) write(answer);
  settle();
}

document.addEventListener("click", (event) => {
  const again = event.target.closest?.("[data-retry]");
  if (again) write(again.closest(".pane").querySelector("[data-stream]"));
  if (event.target.closest?.("[data-write]")) {
    const box = document.getElementById("write");
    box.open = true;
    box.querySelector("textarea").focus();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
  const button = event.target.closest?.("#battle form")?.querySelector("button:not([disabled])");
  if (button && event.target.matches("textarea")) button.click();
});

document.addEventListener("htmx:after:swap", () => {
  const said = document.getElementById("said");
  if (said) said.textContent = "";
  begin();
});

begin();
