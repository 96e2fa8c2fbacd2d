// Elements are made here and nowhere else: text only ever becomes text nodes, so no document's text can run.

/** The element of an id. */
export const byId = (id) => document.getElementById(id);

/**
 * A new element.
 * @param {string} tag
 * @param {object} props properties by their DOM names; `on` holds listeners, `aria` and `data` attributes.
 * @param {...(Node|string|null)} children
 */
export function h(tag, { on = {}, aria = {}, data = {}, ...props } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), props);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  Object.assign(element.dataset, data);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** A new SVG element; attributes by name. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Show or hide an element. */
export function show(element, visible) {
  element.hidden = !visible;
}
