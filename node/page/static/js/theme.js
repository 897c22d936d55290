/** Light or dark: as the system has it, until the reader chooses. */

import { byId, el, setAttribute, setText } from "./element.js";

/** @typedef {import("./swarm.js").Swarm} Swarm */

const KEY = "skerry-theme";

/** @param {Swarm} swarm told when the theme changes, because canvases must be painted again */
export function startTheme(swarm) {
  const button = byId("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  let chosen = stored();

  const show = () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    setAttribute(document.documentElement, "data-theme", chosen);
    setText(byId("theme-name"), dark ? "Light" : "Dark");
    setAttribute(button, "aria-label", `Change to the ${dark ? "light" : "dark"} theme`);
    swarm.tell("theme");
  };
  button.addEventListener("click", () => {
    const dark = chosen ? chosen === "dark" : system.matches;
    chosen = dark ? "light" : "dark";
    store(chosen);
    show();
  });
  system.addEventListener("change", show);
  show();
}

/** @returns {string | null} */
function stored() {
  try {
    const value = localStorage.getItem(KEY);
    return value === "dark" || value === "light" ? value : null;
  } catch {
    return null; // storage is switched off: the choice lasts as long as the page
  }
}

/** @param {string} value */
function store(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // As above.
  }
}

/**
 * Return a colour of style.css as it is now, for a canvas.
 * @param {string} name such as "--ink"
 */
export function colour(name) {
  // The property itself reads light-dark(…); only a colour that is used is resolved.
  const probe = el("i", { hidden: true });
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const resolved = getComputedStyle(probe).color;
  probe.remove();
  return resolved;
}
