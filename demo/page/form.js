// The controls: from the settings into the fields, and back whenever one changes.

import { byId, h, show } from "./dom.js";
import { percent } from "./figures.js";

const HINTS = {
  turn: "One after the other: each has the engine to itself.",
  together: "At the same time: they share the engine, and both take longer.",
  cold: " Each request has a cache salt of its own, so neither finds what an earlier one computed.",
  warm: " vLLM’s prefix cache helps both: a question asked again costs little, with or without blending.",
};

export class Form {
  /**
   * @param {object} settings see `settings.js`; changed in place.
   * @param {object} config the server's, see `api/page.py`.
   * @param {() => void} onChange
   */
  constructor(settings, config, onChange) {
    this._settings = settings;
    this._config = config;
    this._onChange = onChange;
    const own = h("option", { value: "" }, `${config.selector} (server’s)`);
    const options = config.selectors.map(({ name }) => h("option", { value: name }, name));
    byId("selector").replaceChildren(own, ...options);
    if (!config.selectors.some(({ name }) => name === settings.selector)) settings.selector = "";
    this._fill();
    byId("ask").addEventListener("input", (event) => this._read(event.target));
  }

  /** Questions to try whose documents the collection has. */
  offer(presets) {
    const buttons = presets.map(({ question }) =>
      h("button", { type: "button", className: "quiet", on: { click: () => this._ask(question) } }, question),
    );
    byId("presets").replaceChildren(...buttons);
    show(byId("presets"), buttons.length > 0);
  }

  _ask(question) {
    byId("question").value = this._settings.question = question;
    byId("question").focus();
    this._onChange();
  }

  _fill() {
    const { question, topK, ratio, selector, temperature, maxTokens } = this._settings;
    const { ratioMode, sending, cold } = this._settings;
    const values = { question, "top-k": topK, ratio, selector, temperature, "max-tokens": maxTokens };
    for (const [id, value] of Object.entries(values)) byId(id).value = String(value);
    byId("cold").checked = cold;
    for (const [name, value] of [["ratio-mode", ratioMode], ["sending", sending]]) {
      const radios = [...document.getElementsByName(name)];
      (radios.find((radio) => radio.value === value) ?? radios[0]).checked = true;
    }
    this._tell();
  }

  _read(field) {
    if (field.id === "ratio") document.getElementsByName("ratio-mode")[0].checked = true;
    const chosen = (name) => [...document.getElementsByName(name)].find((radio) => radio.checked).value;
    const whole = (id) => (byId(id).validity.valid ? Number(byId(id).value) : undefined);
    const read = {
      question: byId("question").value,
      topK: whole("top-k"),
      ratioMode: chosen("ratio-mode"),
      ratio: Number(byId("ratio").value),
      selector: byId("selector").value,
      temperature: Number(byId("temperature").value),
      maxTokens: whole("max-tokens"),
      sending: chosen("sending"),
      cold: byId("cold").checked,
    };
    for (const [name, value] of Object.entries(read)) if (value !== undefined) this._settings[name] = value;
    this._tell();
    this._onChange();
  }

  _tell() {
    const { ratio, ratioMode, selector, temperature, sending, cold } = this._settings;
    const isSet = ratioMode === "set";
    byId("ratio-value").textContent = isSet ? percent(ratio) : ratioMode === "auto" ? "auto" : "–";
    byId("ratio").classList.toggle("off", !isSet);
    byId("temperature-value").textContent = temperature.toFixed(2);
    const rule = this._config.selectors.find(({ name }) => name === (selector || this._config.selector));
    byId("measure").textContent = rule ? `Ranks tokens by ${rule.measure}.` : "";
    byId("fairness").textContent = HINTS[sending] + HINTS[cold ? "cold" : "warm"];
  }
}
