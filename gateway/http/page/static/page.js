// Live updates: asks for this page again, takes the part that is live, and changes nothing else.
"use strict";

(() => {
  const live = document.querySelector("[data-every]");
  const lost = document.getElementById("lost");
  if (!live || !lost) return;
  const every = 1000 * Number(live.dataset.every);
  let timer = 0;

  // What the operator has begun must not change under their hands.
  const isBusy = () => {
    const here = document.activeElement;
    const writes = here && live.contains(here) && here.matches("input:not([type=checkbox]), select");
    const marks = live.querySelector("input[type=checkbox]:checked");
    const selection = document.getSelection();
    const selects = selection && !selection.isCollapsed && live.contains(selection.anchorNode);
    return writes || marks || selects;
  };

  const keyOf = (element) => {
    for (const name of ["id", "href", "value"]) {
      const value = element.getAttribute(name);
      if (value) return `[${name}="${CSS.escape(value)}"]`;
    }
    return element.dataset.key ? `[data-key="${CSS.escape(element.dataset.key)}"]` : element.localName;
  };

  const swap = (fresh) => {
    const focused = live.contains(document.activeElement) ? keyOf(document.activeElement) : "";
    const boxes = [...live.querySelectorAll(".table")];
    const scrolled = boxes.map((box) => [box.scrollLeft, box.scrollTop]);
    const open = [...live.querySelectorAll("details[open][id]")].map((one) => one.id);
    const [x, y] = [window.scrollX, window.scrollY];
    live.replaceChildren(...fresh.childNodes);
    live.querySelectorAll(".table").forEach((box, number) => {
      if (scrolled[number]) [box.scrollLeft, box.scrollTop] = scrolled[number];
    });
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    window.scrollTo(x, y);
    if (focused) (live.querySelector(focused) || document.getElementById("content")).focus({ preventScroll: true });
  };

  const look = async () => {
    try {
      const answer = await fetch(location.href, {
        headers: { "X-Fragment": "live" },
        cache: "no-store",
        signal: AbortSignal.timeout(15000),
      });
      if (answer.status === 401 || answer.redirected) return location.reload();
      if (!answer.ok) throw new Error(answer.statusText);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-every]");
      if (!fresh) throw new Error("no live part");
      if (!lost.hidden) lost.hidden = true;
      if (!isBusy()) swap(fresh);
    } catch {
      lost.hidden = false;
    }
    plan();
  };

  const plan = () => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(look, every);
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
  document.documentElement.dataset.live = "on";
  document.querySelector(".side [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  plan();
})();
