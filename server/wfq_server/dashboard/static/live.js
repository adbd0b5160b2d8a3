// One stream for all pages of a browser, in a worker that they share: a browser opens six
// connections to a server and no more, so a stream for each page would use them up.
// A page says what it follows and whether somebody looks at it; it is told when to look again.
(function () {
  "use strict";
  var address = self.location.pathname.split("/static/")[0] + "/live";
  // As MOST_TOPICS of live.py: with more pages than that, any change is told to each of them.
  var MOST = 50;
  // A page that somebody looks at says so again and again; one that is silent for this many ms has crashed.
  var SILENT_MS = 60000;
  var pages = new Map();
  var source = null, followed = "", timer = null;

  function topics() {
    var wanted = new Set();
    pages.forEach(function (page) { if (page.visible) { wanted.add(page.topic); } });
    return wanted.size > MOST ? [""] : Array.from(wanted).sort();
  }
  function tell(changed) {
    pages.forEach(function (page, port) {
      if (page.visible && (changed === null || changed.includes(page.topic))) { port.postMessage("changed"); }
    });
  }
  function follow() {
    timer = null;
    var wanted = topics();
    var query = wanted.map(function (topic) { return "of=" + encodeURIComponent(topic); }).join("&");
    if (source !== null && query === followed) { return; }
    if (source !== null) { source.close(); source = null; }
    if (wanted.length === 0) { return; }
    followed = query;
    var all = wanted.length === 1 && wanted[0] === "";
    var opened = source = new EventSource(address + "?" + query);
    opened.addEventListener("changed", function (event) { tell(all ? null : JSON.parse(event.data)); });
    opened.onerror = function () {
      if (opened !== source || opened.readyState !== EventSource.CLOSED) { return; }
      // Refused: pages that look find out why (the session has ended, for one), and we try again.
      source = null;
      tell(null);
      followSoon(5000);
    };
  }
  // Soon, not now: when one page follows another, that is one change, not two.
  function followSoon(ms) {
    if (timer === null) { timer = setTimeout(follow, ms); }
  }
  setInterval(function () {
    pages.forEach(function (page, port) {
      if (page.visible && Date.now() - page.at > SILENT_MS) { pages.delete(port); followSoon(100); }
    });
  }, SILENT_MS / 4);
  self.onconnect = function (event) {
    var port = event.ports[0];
    port.onmessage = function (message) {
      if (message.data === null) { pages.delete(port); } else { pages.set(port, { topic: message.data.topic, visible: message.data.visible, at: Date.now() }); }
      followSoon(100);
    };
  };
})();
