// What a reader has opened stays open when a page that refreshes itself is morphed.
document.addEventListener("DOMContentLoaded", () => window.htmx.config.morphIgnore.push("open"), { once: true });
