/**
 * Building the document. Text only ever becomes a text node, so what a peer has chosen can never
 * be markup; there is no way to pass an inline style or handler, which the page's policy forbids.
 */

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Record<string, string | number | boolean | null | undefined>} Attributes */
/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * Return a new HTML element.
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes] null, undefined and false leave one out; true sets it empty
 * @param {...Child} children strings become text
 * @returns {HTMLElementTagNameMap[T]}
 */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/**
 * Return a new SVG element.
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Attributes} [attributes]
 * @param {...Child} children
 * @returns {SVGElementTagNameMap[T]}
 */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/**
 * @template {Element} E
 * @param {E} element
 * @param {Attributes} attributes
 * @param {Child[]} children
 * @returns {E}
 */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    setAttribute(element, name, value);
  }
  element.append(...wanted(children));
  return element;
}

/**
 * Set an attribute, or remove it; touches the document only if something changes.
 * @param {Element} element
 * @param {string} name
 * @param {string | number | boolean | null | undefined} value
 */
export function setAttribute(element, name, value) {
  if (name === "style" || name.startsWith("on")) {
    throw new TypeError(`${name} is against the page's policy`);
  }
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (element.getAttribute(name) !== text) {
    element.setAttribute(name, text);
  }
}

/**
 * Set the text of an element if it differs, so that selections and screen readers are left alone.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/**
 * Set a custom property, such as the share of a bar.
 * @param {HTMLElement | SVGElement} element
 * @param {`--${string}`} name
 * @param {string | number} value
 */
export function setProperty(element, name, value) {
  element.style.setProperty(name, String(value));
}

/**
 * Put new children in the place of the old.
 * @param {Element} element
 * @param {...Child} children
 */
export function replace(element, ...children) {
  element.replaceChildren(...wanted(children));
}

/**
 * Return the element with an id; the page's own HTML has it.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) {
    throw new Error(`index.html has no #${id}`);
  }
  return element;
}

/**
 * @param {Child[]} children
 * @returns {(Node | string)[]}
 */
function wanted(children) {
  /** @type {(Node | string)[]} */
  const found = [];
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) {
      found.push(typeof child === "number" ? String(child) : child);
    }
  }
  return found;
}
