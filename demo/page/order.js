// A list whose items are put into another order: dragged by their handles, or moved with the arrow keys.

/**
 * @param {HTMLOListElement} list its items have `data-id`, and a `.handle` that can be focused.
 * @param {(id: string, place: number) => void} onMove an item is to stand at a place, counted from 0.
 * @param {(id: string) => void} onRemove
 */
export function makeOrdered(list, onMove, onRemove) {
  list.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest(".handle");
    if (handle && event.button === 0) drag(event, handle, list, onMove);
  });
  list.addEventListener("keydown", (event) => {
    const handle = event.target.closest(".handle");
    if (!handle) return;
    const item = handle.closest("li");
    const place = [...list.children].indexOf(item);
    const last = list.children.length - 1;
    const to = { ArrowUp: place - 1, ArrowDown: place + 1, Home: 0, End: last }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      if (to >= 0 && to <= last && to !== place) onMove(item.dataset.id, to);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      event.preventDefault();
      onRemove(item.dataset.id);
    }
  });
}

function drag(begun, handle, list, onMove) {
  const item = handle.closest("li");
  const before = [...list.children];
  begun.preventDefault(); // no text is selected on the way
  handle.focus();
  item.classList.add("dragged");

  const end = (keeps) => {
    watching.abort();
    item.classList.remove("dragged");
    const place = [...list.children].indexOf(item);
    if (place === before.indexOf(item)) return;
    if (keeps) {
      onMove(item.dataset.id, place);
    } else {
      list.replaceChildren(...before);
      handle.focus();
    }
  };
  const move = (event) => {
    const others = [...list.children].filter((one) => one !== item);
    const next = others.find((one) => event.clientY < middle(one)) ?? null;
    if (item.nextElementSibling !== next) list.insertBefore(item, next);
  };
  // On the window: an element that is moved in its list loses the pointer.
  const watching = new AbortController();
  const watch = (name, listener) => window.addEventListener(name, listener, { signal: watching.signal });
  watch("pointermove", move);
  watch("pointerup", () => end(true));
  watch("pointercancel", () => end(false));
  watch("keydown", (event) => event.key === "Escape" && end(false));
}

function middle(element) {
  const { top, height } = element.getBoundingClientRect();
  return top + height / 2;
}
