// The Guidelines button says quietly that they changed since this person opened them last, here in this browser.

const panel = document.getElementById("guidelines");
const remember = () => localStorage.setItem(panel.dataset.seen, panel.dataset.version);

if (panel) {
  const seen = localStorage.getItem(panel.dataset.seen);
  if (seen === null) remember(); // the first visit: nothing has changed yet
  document.body.toggleAttribute("data-news", seen !== null && seen !== panel.dataset.version);
  document.addEventListener("click", (event) => {
    if (!event.target.closest?.("[data-dialog=guidelines]")) return;
    remember();
    document.body.removeAttribute("data-news");
  });
}
