// Small behaviour that every page shares: notices, closing, one-time links, focus after a swap.

const NOTICE_MS = 8000;

function watchNotice() {
  const notice = document.getElementById("notice");
  let timer;
  new MutationObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(() => notice.replaceChildren(), NOTICE_MS);
  }).observe(notice, { childList: true });
}

document.addEventListener("click", (event) => {
  const closer = event.target.closest("[data-close]");
  if (closer) document.querySelector(closer.dataset.close)?.setAttribute("hidden", "");
});

document.addEventListener("submit", (event) => {
  const sentence = event.target.dataset?.confirm;
  if (sentence && !confirm(sentence)) event.preventDefault();
});

// After a swap the focus goes to what the new piece marks, so that keyboard and screen reader follow; where it marks
// nothing and took away what had the focus, reading goes on in the page and not before it.
let focused;
document.addEventListener("focusin", (event) => (focused = event.target));
document.addEventListener("htmx:after:swap", () => {
  const marked = document.querySelector("[data-focus]:not([data-focused])");
  if (marked) marked.focus({ preventScroll: false });
  else if (focused && !focused.isConnected && document.activeElement === document.body) {
    document.getElementById("main")?.focus({ preventScroll: true });
  }
});

// The network itself failed: say so and keep the page as it is.
document.addEventListener("htmx:error", (event) => {
  const problem = document.getElementById("problem");
  if (!problem || event.detail?.ctx?.response) return;
  problem.textContent = document.documentElement.lang.startsWith("zh")
    ? "服务器没有应答。您输入的内容还在，请稍后再试。"
    : "The server does not answer. What you typed is still here; please try again in a moment.";
  problem.hidden = false;
});

watchNotice();
document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
document.querySelector("form[data-submit-at-once]")?.submit();
