// Before the first paint: the theme that was chosen here, if any; else the system's.
(function () {
  try {
    var chosen = localStorage.getItem("wfq-theme");
    if (chosen === "light" || chosen === "dark") {
      document.documentElement.dataset.theme = chosen;
    }
  } catch (_) { /* no storage: the system's */ }
})();
