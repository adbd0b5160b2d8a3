// What pages do in the browser besides htmx. All of it is optional: links and forms work without.
(function () {
  "use strict";
  var root = document.documentElement;

  // --- light and dark
  function toggleTheme() {
    var dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("wfq-theme", root.dataset.theme); } catch (_) { /* for this page */ }
  }

  // --- how long ago
  function ago(ms) {
    var s = Math.max(0, ms) / 1000;
    if (s < 2) { return "now"; }
    if (s < 60) { return Math.floor(s) + " s ago"; }
    if (s < 3600) { return Math.floor(s / 60) + " min ago"; }
    if (s < 172800) { return Math.floor(s / 3600) + " h ago"; }
    return Math.floor(s / 86400) + " d ago";
  }
  function tellTimes() {
    var now = Date.now();
    document.querySelectorAll("time[data-ago]").forEach(function (element) {
      var text = ago(now - Number(element.dataset.ago));
      if (element.textContent !== text) { element.textContent = text; }
    });
  }

  // --- zoom of the timeline: kept when its part of the page is swapped
  function applyZoom() {
    var holder = document.getElementById("instance");
    var timeline = document.querySelector(".timeline");
    if (!holder || !timeline) { return; }
    timeline.className = "timeline zoom-" + holder.dataset.zoom;
  }
  function zoomBy(factor) {
    var holder = document.getElementById("instance");
    var zoom = Math.min(16, Math.max(1, Number(holder.dataset.zoom) * factor));
    holder.dataset.zoom = String(zoom);
    applyZoom();
  }

  // --- chosen rows: kept when the rows are swapped
  var chosen = new Set();
  function showChosen() {
    var everything = document.getElementById("everything");
    var told = document.getElementById("chosen");
    if (!told) { return; }
    document.querySelectorAll('#rows input[name="id"]').forEach(function (box) {
      box.checked = chosen.has(box.value);
      box.disabled = Boolean(everything && everything.checked);
    });
    told.textContent = everything && everything.checked ? "All that fit;"
      : chosen.size ? chosen.size + " chosen, or" : "Choose rows, or";
  }

  // --- the command lines follow what is typed
  function quoted(text) { return /^[\w@%+=:,./-]+$/.test(text) ? text : "'" + text.replace(/'/g, "'\"'\"'") + "'"; }
  function compact(text) {
    try { return text.trim() ? JSON.stringify(JSON.parse(text)) : ""; } catch (_) { return text.trim(); }
  }
  function tellLines(form) {
    var wfq = document.getElementById("line-wfq"), curl = document.getElementById("line-curl");
    if (!wfq || !curl) { return; }
    var prefix = location.origin + location.pathname.split("/ui/")[0] + "/v1.0/workflows/dapr/";
    var start = form.dataset.lines === "start";
    var field = form.elements[start ? "input" : "data"];
    var data = field ? compact(field.value) : "";
    var url, line;
    if (start) {
      var id = form.elements.id.value.trim(), queue = form.elements.queue.value;
      line = "wfq start " + quoted(form.dataset.name) + (data ? " " + quoted(data) : "") +
        (id ? " --id " + quoted(id) : "") + (queue !== "default" ? " --app-id " + quoted(queue) : "");
      var query = new URLSearchParams();
      if (id) { query.set("instanceID", id); }
      if (queue !== "default") { query.set("appID", queue); }
      url = prefix + encodeURIComponent(form.dataset.name) + "/start" + (query.toString() ? "?" + query : "");
    } else {
      var event = form.elements.event.value.trim() || "EVENT";
      line = "wfq raise " + quoted(form.dataset.id) + " " + quoted(event) + (data ? " " + quoted(data) : "");
      url = prefix + form.dataset.id + "/raiseEvent/" + encodeURIComponent(event);
    }
    wfq.textContent = line;
    curl.textContent = "curl -X POST " + quoted(url) +
      (data ? " -H 'content-type: application/json' -d " + quoted(data) : "");
  }

  // Another event, another example; what somebody has typed is kept.
  function offerExample(form, name) {
    var field = form.elements.data, offered = form.dataset.offered || field.defaultValue;
    var option = Array.from(document.querySelectorAll("#events option")).find(function (one) {
      return one.value.toLowerCase() === name.trim().toLowerCase();
    });
    if (!option || field.value !== offered) { return; }
    field.value = form.dataset.offered = option.dataset.example;
  }

  // --- events, delegated: parts of the page come and go
  document.addEventListener("click", function (event) {
    var target = event.target.closest("button, input");
    if (!target) { return; }
    if (target.id === "theme") { toggleTheme(); }
    if (target.dataset.zoomBy) { zoomBy(Number(target.dataset.zoomBy)); }
    if (target.dataset.copy && navigator.clipboard) {
      navigator.clipboard.writeText(document.getElementById(target.dataset.copy).textContent).then(function () {
        target.textContent = "copied";
        setTimeout(function () { target.textContent = "copy"; }, 1500);
      });
    }
  });
  document.addEventListener("change", function (event) {
    var box = event.target;
    if (box.name === "id" && box.type === "checkbox") {
      if (box.checked) { chosen.add(box.value); } else { chosen.delete(box.value); }
    }
    if (box.type === "checkbox") { showChosen(); }
  });
  document.addEventListener("input", function (event) {
    var form = event.target.closest("form[data-lines]");
    if (form && event.target.name === "event") { offerExample(form, event.target.value); }
    if (form) { tellLines(form); }
  });
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) { return; }
    if (event.key === "t") { toggleTheme(); }
    if (event.key === "/") {
      var search = document.getElementById("search");
      if (search) { search.focus(); event.preventDefault(); }
    }
    if (event.key === "j" || event.key === "k") {
      var links = Array.from(document.querySelectorAll("table.list td.id a"));
      var at = links.indexOf(document.activeElement);
      var next = links[event.key === "j" ? at + 1 : Math.max(0, at - 1)];
      if (next) { next.focus(); }
    }
  });
  // A part that comes as it was is not drawn again, and the focus stays where it was.
  var last = new WeakMap(), focused = null;
  function pathOf(element) {
    if (element.id) { return "#" + CSS.escape(element.id); }
    if (element.matches("a[href]")) { return 'a[href="' + CSS.escape(element.getAttribute("href")) + '"]'; }
    if (element.matches("input[value]")) { return 'input[value="' + CSS.escape(element.value) + '"]'; }
    if (element.dataset.zoomBy) { return '[data-zoom-by="' + element.dataset.zoomBy + '"]'; }
    return element.className ? "." + CSS.escape(element.className.split(" ")[0]) : null;
  }
  // What is scrolled stays where it was, and what somebody is marking is left alone for a while.
  var scrolled = [], markedAt = 0, MARKING_MS = 10000;
  function scrollers(target) { return Array.from(target.querySelectorAll(".timeline, .picture, .scroll, pre")); }
  function marking(target) {
    var marked = window.getSelection();
    if (!marked || marked.isCollapsed || !target.contains(marked.anchorNode)) { markedAt = 0; return false; }
    markedAt = markedAt || Date.now();
    return Date.now() - markedAt < MARKING_MS;
  }
  document.addEventListener("htmx:beforeSwap", function (event) {
    var target = event.detail.target, text = event.detail.serverResponse;
    if (last.get(target) === text || marking(target)) { event.detail.shouldSwap = false; return; }
    last.set(target, text);
    var active = document.activeElement;
    focused = active && target.contains(active) ? pathOf(active) : null;
    scrolled = scrollers(target).map(function (part) { return [part.scrollLeft, part.scrollTop]; });
  });
  document.addEventListener("htmx:afterSwap", function (event) {
    tellTimes(); applyZoom(); showChosen();
    var again = focused && event.target.querySelector(focused);
    focused = null;
    if (again) { again.focus({ preventScroll: true }); }
    var parts = scrollers(event.target);
    if (parts.length === scrolled.length) {
      parts.forEach(function (part, number) { part.scrollLeft = scrolled[number][0]; part.scrollTop = scrolled[number][1]; });
    }
    scrolled = [];
  });
  // --- live parts: told by a worker that all pages share (live.js), while somebody looks
  //: Milliseconds between looks where the browser has no such workers.
  var LOOK_MS = 3000;
  //: Milliseconds between words to that worker that somebody still looks.
  var WORD_MS = 15000;
  // Stands in for the EventSource that htmx would open for each page.
  function Following(url) {
    var topic = new URL(url, location.href).searchParams.get("of") || "";
    var listeners = new Set(), timer = null, port = null, gone = false;
    var words = setInterval(function () { if (!document.hidden) { say(true); } }, WORD_MS);
    this.readyState = 1;
    this.addEventListener = function (_, listener) { listeners.add(listener); };
    this.removeEventListener = function (_, listener) { listeners.delete(listener); };
    function changed() {
      if (!document.hidden) { listeners.forEach(function (listener) { listener(new Event("changed")); }); }
    }
    function say(visible) { if (port && !gone) { port.postMessage({ topic: topic, visible: visible }); } }
    function shown() { say(!document.hidden); changed(); }
    function back(event) { if (event.persisted) { gone = false; shown(); } }
    function left() { if (port) { port.postMessage(null); } gone = true; }
    function lookNowAndThen() { port = null; timer = timer || setInterval(changed, LOOK_MS); }
    try {
      var worker = new SharedWorker(document.body.dataset.live);
      worker.onerror = lookNowAndThen;
      port = worker.port;
      port.onmessage = changed;
      say(!document.hidden);
    } catch (_) { lookNowAndThen(); }
    document.addEventListener("visibilitychange", shown);
    // A page that comes back from the browser's memory has to follow again.
    window.addEventListener("pagehide", left);
    window.addEventListener("pageshow", back);
    this.close = function () {
      this.readyState = 2;
      left();
      clearInterval(timer);
      clearInterval(words);
      document.removeEventListener("visibilitychange", shown);
      window.removeEventListener("pagehide", left);
      window.removeEventListener("pageshow", back);
    };
  }
  htmx.createEventSource = function (url) { return new Following(url); };
  // A page that nobody looks at asks for nothing; what it would have asked for comes when it is looked at.
  document.addEventListener("htmx:beforeRequest", function (event) {
    var part = event.detail.elt;
    if (part.getAttribute("hx-trigger") && (document.hidden || hasEnded(part))) { event.preventDefault(); }
  });
  document.addEventListener("visibilitychange", function () {
    if (document.hidden) { return; }
    tellTimes();
    document.querySelectorAll('[hx-trigger*="looked-at"]').forEach(function (part) { htmx.trigger(part, "looked-at"); });
  });
  // An instance that has ended says nothing more, and its form makes no sense.
  function hasEnded(part) {
    return part.id === "now" &&
      Boolean(part.querySelector(".head .status-completed, .head .status-failed, .head .status-terminated"));
  }
  document.addEventListener("htmx:afterSettle", function () {
    var form = document.getElementById("raise"), now = document.getElementById("now");
    if (form && now && hasEnded(now)) { form.hidden = true; }
  });
  window.addEventListener("DOMContentLoaded", function () { tellTimes(); showChosen(); });
  setInterval(tellTimes, 1000);
})();
