// Live pages and keys. Everything works without this: it only fetches the page again and moves what has changed into place.
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

  const look = async () => {
    if (document.hidden) return; // a hidden tab asks nothing
    let wait = seconds;
    if (!isBusy()) {
      try {
        const headers = { "X-Part": "main" };
        if (tag) headers["If-None-Match"] = tag;
        const answer = await fetch(location.href, { headers, redirect: "error", cache: "no-store" });
        if (answer.status === 401) return location.reload();
        if (!answer.ok && answer.status !== 304) throw new Error(String(answer.status));
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
        wait = Math.min(30, seconds * 2 ** Math.min(failures, 4));
      }
    }
    timer = setTimeout(look, wait * 1000);
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
    timer = setTimeout(look, seconds * 1000);
    document.addEventListener("visibilitychange", () => { clearTimeout(timer); if (!document.hidden) look(); });
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
