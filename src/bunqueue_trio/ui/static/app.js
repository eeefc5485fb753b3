// Live pages and keys. Everything works without this: it only hears that there is something new, fetches the page again and moves what has changed into place.
"use strict";
(() => {
  const main = document.getElementById("main");
  const seconds = Number(main.dataset.live || 0);
  const live = document.getElementById("live");
  let tag = "", failures = 0, timer = 0;

  // Make the old tree the same as the new one, keeping what is the same: focus, open details and scrolled boxes stay.
  const isLike = (a, b) => a.nodeName === b.nodeName && a.id === b.id && a.className === b.className;
  const morph = (from, to) => {
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    if (from.isEqualNode(to)) return;
    for (const { name } of [...from.attributes]) if (!to.hasAttribute(name) && name !== "open") from.removeAttribute(name);
    for (const { name, value } of [...to.attributes]) {
      if (name !== "open" && from.getAttribute(name) !== value) from.setAttribute(name, value);
    }
    let at = from.firstChild;
    for (const node of [...to.childNodes]) {
      let like = at;
      // A text only stands for the one in its place: the next would take all in between with it.
      while (like && !isLike(like, node)) like = node.nodeType === Node.ELEMENT_NODE ? like.nextSibling : null;
      if (!like) {
        from.insertBefore(node, at);
        continue;
      }
      while (at !== like) {
        const gone = at;
        at = at.nextSibling;
        gone.remove();
      }
      at = like.nextSibling;
      morph(like, node);
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  };

  const isBusy = () => {
    const at = document.activeElement;
    if (at && main.contains(at) && /^(INPUT|SELECT|TEXTAREA)$/.test(at.nodeName)) return true;
    const chosen = document.getSelection();
    return chosen && !chosen.isCollapsed && main.contains(chosen.anchorNode);
  };

  const say = (text) => { live.hidden = false; live.lastChild.textContent = text; live.classList.toggle("late", failures > 0); };

  // A page looks again when the server says that there is something new for it, and without that stream every few seconds.
  const QUIET_S = 40;
  let stream = null, isHeard = false, isLooking = false, isDue = false, silence = 0, losses = 0, retryAt = 0, lookedAt = 0;
  let mark = main.dataset.mark;

  const plan = (s) => { clearTimeout(timer); timer = document.hidden ? 0 : setTimeout(look, s * 1000); };

  const look = async () => {
    timer = 0;
    if (document.hidden || isLooking) return; // a hidden tab asks nothing
    if (isBusy()) return plan(seconds);
    isLooking = true;
    isDue = false;
    lookedAt = performance.now();
    try {
      const headers = { "X-Part": "main" };
      if (tag) headers["If-None-Match"] = tag;
      const answer = await fetch(location.href, { headers, redirect: "error", cache: "no-store" });
      if (answer.status === 401) return location.reload();
      if (!answer.ok && answer.status !== 304) throw new Error(String(answer.status));
      mark = answer.headers.get("X-Mark") || "";
      if (answer.status === 200) {
        tag = answer.headers.get("ETag") || "";
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const part = document.getElementById("part"), fresh = page.getElementById("part");
        if (part && fresh) { morph(part, document.adoptNode(fresh)); tell(); }
      }
      failures = 0;
      say("live");
    } catch {
      failures += 1;
      say("The server does not answer");
    }
    isLooking = false;
    if (failures) return plan(Math.min(30, seconds * 2 ** Math.min(failures, 4)));
    if (!stream && performance.now() >= retryAt) listen();
    if (!isHeard || isDue) plan(seconds);
  };

  const leave = () => {
    clearTimeout(silence);
    if (stream) stream.close();
    stream = null;
    isHeard = false;
  };

  // It has ended, or a proxy keeps it back: the page asks again, and for a stream when some time has passed.
  const lose = () => {
    leave();
    losses += 1;
    retryAt = performance.now() + Math.min(300, 5 * 2 ** losses) * 1000;
    if (!isLooking) plan(0);
  };

  const hear = () => {
    clearTimeout(silence);
    silence = setTimeout(lose, QUIET_S * 1000);
  };

  const listen = () => {
    if (!window.EventSource || document.hidden) return;
    stream = new EventSource(`${main.dataset.news}&mark=${encodeURIComponent(mark)}`);
    hear();
    stream.onerror = lose;
    stream.addEventListener("hello", () => {
      hear();
      losses = 0;
      isHeard = true;
      if (failures) return; // it is to look again
      clearTimeout(timer);
      timer = 0;
    });
    stream.addEventListener("still", hear);
    stream.addEventListener("news", () => {
      hear();
      if (isLooking) isDue = true;
      else if (!timer) plan(Math.max(0, seconds - (performance.now() - lookedAt) / 1000));
    });
  };

  // How long ago something was goes on by itself, by the clock of the server.
  const ahead = main.dataset.now - Date.now();
  const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const span = (s) => {
    const at = UNITS.findIndex(([unit]) => s >= unit), [unit, name] = UNITS[at], whole = Math.floor(s / unit), next = UNITS[at + 1];
    const rest = next && whole < 3 ? Math.floor((s % unit) / next[0]) : 0;
    return `${whole}\u00a0${name}${rest ? ` ${rest}\u00a0${next[1]}` : ""}`;
  };
  const age = () => {
    if (document.hidden || isBusy()) return;
    for (const each of main.querySelectorAll("time")) {
      if (!/^in | ago$|^now$/.test(each.textContent)) continue;
      const s = Math.floor((Date.now() + ahead - Date.parse(each.dateTime)) / 1000);
      const said = s >= 1 ? `${span(s)} ago` : s <= -1 ? `in ${span(-s)}` : "now";
      if (each.textContent !== said) each.textContent = said;
    }
  };

  const tell = () => {
    const urgent = document.getElementById("part").dataset.urgent;
    document.title = (urgent !== "0" ? `(${urgent}) ` : "") + document.title.replace(/^\(\d+\) /, "");
    const count = document.getElementById("urgent");
    if (count) { count.hidden = urgent === "0"; count.firstChild.nodeValue = urgent; }
  };

  // On a phone the screens are one row that is wider than the window.
  for (const at of document.querySelectorAll("nav [aria-current], .tabs [aria-current]")) {
    at.scrollIntoView({ block: "nearest", inline: "center" });
  }

  if (seconds) {
    say("live");
    plan(seconds);
    listen();
    setInterval(age, 1000);
    document.addEventListener("visibilitychange", () => {
      clearTimeout(timer);
      if (document.hidden) return leave();
      retryAt = 0;
      look();
    });
  }

  // The moment that a time means, as the clock on the wall has it.
  main.addEventListener("mouseover", ({ target }) => {
    if (target.nodeName !== "TIME" || !target.dateTime) return;
    const at = new Date(target.dateTime), east = -at.getTimezoneOffset(), two = (n) => String(n).padStart(2, "0");
    const local = new Date(at.getTime() + east * 60000).toISOString().slice(0, 19).replace("T", " ");
    target.title = `${local}${east < 0 ? "-" : "+"}${two(Math.trunc(Math.abs(east) / 60))}:${two(Math.abs(east) % 60)}`;
  });

  // A thumb cannot point: a press shows the same beside it.
  main.addEventListener("click", ({ target }) => {
    if (target.nodeName === "TIME" && !target.closest("a")) target.toggleAttribute("open");
  });

  // Keys: 1 to 9 and 0 for the screens, / to find a job. They can be turned off.
  const toggle = document.getElementById("keys");
  const areOn = () => { try { return localStorage.getItem("keys") !== "off"; } catch { return true; } };
  const show = () => { toggle.hidden = false; toggle.textContent = `Keys: ${areOn() ? "on" : "off"}`; };
  toggle.addEventListener("click", () => {
    try { localStorage.setItem("keys", areOn() ? "off" : "on"); } catch { return; }
    show();
  });
  show();
  document.addEventListener("keydown", (event) => {
    if (!areOn() || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.nodeName)) return;
    if (event.key === "/") { event.preventDefault(); document.getElementById("find").focus(); }
    const link = /^[0-9]$/.test(event.key) && document.querySelector(`a[data-key="${event.key}"]`);
    if (link) link.click();
  });
})();
