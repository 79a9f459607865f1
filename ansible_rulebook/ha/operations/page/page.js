"use strict";
// Puts in place what the server has rendered.
(() => {
  const AGAIN = 2000; // milliseconds
  const SILENCE = 5000; // milliseconds; the server tells something each second
  const live = document.getElementById("live");
  let lastNews = 0;

  function say(state, text) {
    if (live.dataset.state === state) return;
    live.dataset.state = state;
    live.textContent = text;
  }

  function show(sections) {
    for (const [id, html] of Object.entries(sections)) {
      const element = document.getElementById(id);
      if (element) element.innerHTML = html;
    }
    if ("news" in sections) {
      const news = document.getElementById("news").textContent;
      document.title = `ansible-rulebook HA: ${news.replace(/\.$/, "")}`;
    }
  }

  function connect() {
    const source = new EventSource("events");
    source.addEventListener("sections", (event) => {
      lastNews = Date.now();
      say("live", "live");
      show(JSON.parse(event.data));
    });
    source.addEventListener("error", () => {
      say("lost", "not live: this worker does not answer");
      if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN);
    });
  }

  setInterval(() => {
    if (lastNews && Date.now() - lastNews > SILENCE) {
      say("lost", "not live: this worker does not answer");
    }
  }, 1000);
  connect();
})();
